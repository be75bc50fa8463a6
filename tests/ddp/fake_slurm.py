"""A cluster of one machine: as much of sbatch, srun, scontrol, scancel and sacct as submitit uses.

Linked under these names in a folder of PATH; state and logs lie in $FAKE_SLURM. Like Slurm it sends a signal to every
process of a step, not only to the tasks that it has started.
"""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

HOME = Path(os.environ["FAKE_SLURM"])
JOB = "1001"


def sbatch(script: str) -> None:
    """Queue the only job there is."""
    (HOME / "state").write_text("PENDING")
    (HOME / "batch.sh").write_text(Path(script).read_text())
    daemon = [sys.executable, __file__, "daemon"]
    subprocess.Popen(daemon, stdout=(HOME / "daemon.log").open("w"), stderr=subprocess.STDOUT, start_new_session=True)
    sys.stdout.write(f"Submitted batch job {JOB}\n")


def daemon() -> None:
    """Run the script, again and again while it is put into the queue again."""
    text = (HOME / "batch.sh").read_text()
    asked = dict(re.findall(r"^#SBATCH --([\w-]+)=(\S+)", text, flags=re.MULTILINE))
    per_node, nodes = int(asked.get("ntasks-per-node", 1)), int(asked.get("nodes", 1))
    own = {"SLURM_JOB_ID": JOB, "SLURM_NTASKS": per_node * nodes, "SLURM_NTASKS_PER_NODE": per_node}
    own |= {"SLURM_NNODES": nodes, "SLURM_JOB_NUM_NODES": nodes, "SLURM_NODEID": 0, "SLURM_NODELIST": "127.0.0.1"}
    own |= {"SLURM_JOB_NODELIST": "127.0.0.1", "SLURM_PROCID": 0, "SLURM_LOCALID": 0, "SLURM_JOB_NAME": "job"}
    environment = os.environ | {name: str(value) for name, value in own.items()}
    while True:
        (HOME / "state").write_text("RUNNING")
        with (HOME / "starts").open("a") as stream:
            stream.write("start\n")
        code = subprocess.run(["bash", str(HOME / "batch.sh")], env=environment, check=False).returncode
        if not (HOME / "requeue").exists():
            break
        (HOME / "requeue").unlink()
    if (HOME / "state").read_text() != "CANCELLED":
        (HOME / "state").write_text("FAILED" if code else "COMPLETED")


def srun(*given: str) -> None:
    """Start the tasks of a step and wait for them; the largest exit code."""
    words, streams = list(given), {"--output": "/dev/null", "--error": "/dev/null"}
    while words[0].startswith("--"):
        option = words.pop(0)
        if option in streams:
            streams[option] = words.pop(0)
    tasks = []
    for rank in range(int(os.environ["SLURM_NTASKS"])):
        environment = os.environ | {"SLURM_PROCID": str(rank), "SLURM_LOCALID": str(rank), "SLURM_STEP_ID": "0"}
        places = [Path(name.replace("%j", JOB).replace("%t", str(rank))) for name in streams.values()]
        with places[0].open("a") as out, places[1].open("a") as err:
            tasks.append(subprocess.Popen(words, env=environment, stdout=out, stderr=err))
    (HOME / "tasks").write_text(" ".join(str(task.pid) for task in tasks))
    sys.exit(max(code if (code := task.wait()) >= 0 else 128 - code for task in tasks))


def scontrol(what: str, job: str) -> None:
    """Put the job into the queue again."""
    if what != "requeue" or job != JOB:
        sys.exit(f"scontrol: no {what} of {job}")
    (HOME / "requeue").touch()


def scancel(job: str, flag: str = "", name: str = "SIGTERM") -> None:
    """Send a signal to all processes of the step; without one, cancel the job."""
    if not flag:
        (HOME / "state").write_text("CANCELLED")
    number = getattr(signal, name if name.startswith("SIG") else f"SIG{name}")
    for pid in family([int(pid) for pid in (HOME / "tasks").read_text().split()]):
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            continue
    with (HOME / "signals").open("a") as stream:
        stream.write(f"{name}\n")
    if not flag:
        time.sleep(5)
        scancel(job, "--signal", "SIGKILL")


def family(pids: list[int]) -> list[int]:
    """Processes and all that descend from them."""
    found = list(pids)
    for pid in found:
        children = Path(f"/proc/{pid}/task/{pid}/children")
        found += [int(child) for child in children.read_text().split()] if children.exists() else []
    return found


def sacct(*_: str) -> None:
    """State of the job."""
    sys.stdout.write(f"JobID|State|NodeList\n{JOB}|{(HOME / 'state').read_text()}|here\n")


if __name__ == "__main__":
    called, given = Path(sys.argv[0]).name, sys.argv[1:]
    if given == ["daemon"]:
        daemon()
    else:
        {"sbatch": sbatch, "srun": srun, "scontrol": scontrol, "scancel": scancel, "sacct": sacct}[called](*given)
