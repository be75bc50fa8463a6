"""Submits one job of a sweep to a cluster and waits for its end; started by the sweep, in place of the job.

python -m seglab.run.sweeps.cluster_job <specification as JSON, made by Cluster.command>
"""

import json
import signal
import sys
import time
from pathlib import Path
from typing import Any

import submitit

from seglab.run.started import free_port
from seglab.run.sweeps.cluster_task import ClusterTask

POLL_S = 1.0


def main(spec: dict[str, Any]) -> int:
    """Submit, wait, and show what a job that failed said; its exit code, 128 + n after signal n.

    Args:
        spec: commands, folder, executor and parameters.
    """
    asked: list[int] = []
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda given, _: asked.append(given))
    job = submit(spec)
    sys.stdout.write(f"{spec['executor']} job {job.job_id} is submitted, its logs are in {job.paths.folder}\n")
    sys.stdout.flush()
    is_cancelled = False
    while not job.done():
        if asked and not is_cancelled:
            cancel(job, spec["executor"])
            is_cancelled = True
        time.sleep(POLL_S)
    if asked:
        return 128 + asked[0]
    return end_of(job)


def submit(spec: dict[str, Any]) -> "submitit.Job[Any]":
    """Hand the job in."""
    folder = Path(spec["folder"])
    place = folder.parent / ".submitit" / folder.name
    limits = {f"{name}_max_num_timeout": spec["max_timeouts"] for name in ("slurm", "local")}
    executor = submitit.AutoExecutor(folder=place, cluster=spec["executor"], **limits)
    executor.update_parameters(**spec["parameters"])
    task = ClusterTask(spec["first"], spec["again"], str(folder), free_port())
    return executor.submit(task)


def cancel(job: "submitit.Job[Any]", executor: str) -> None:
    """Take a job back; the local one has got the signal itself, as one of the processes of this job of the sweep."""
    if executor == "slurm":
        job.cancel(check=False)


def end_of(job: "submitit.Job[Any]") -> int:
    """0 for a job that ended well; else say why."""
    error = job.exception()
    if error is None:
        return 0
    lines = [line for line in str(error).splitlines() if line.strip()]
    known = [line for line in lines if "TaskFailedError" in line]
    sys.stderr.write("\n".join([*(known[-1:] or lines), ""]))
    return 1


if __name__ == "__main__":
    sys.exit(main(json.loads(sys.argv[1])))
