"""What each task of a cluster job runs: one process of a run, which is told to save before the job is taken away."""

import os
import signal
import subprocess
import time
from collections.abc import Mapping
from itertools import count
from pathlib import Path
from types import FrameType
from typing import Any

from submitit import JobEnvironment
from submitit.core.utils import DelayedSubmission

from seglab.run.guard import SET_DEATH_SIGNAL, linux_prctl

STOP_CODES = {128 + number for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)}
LINGER_S = 600.0
"""How long a task waits for its end after SIGTERM: only Slurm knows whether it cancels the job or queues it again."""


class TaskFailedError(RuntimeError):
    """The process of the run ended with an error, which is in its log."""


class ClusterTask:
    """Runs one process of a run as a child, and hands its job on to the next one.

    The child is a plain `python src/train.py ...` that finds its rank in the environment. A start goes on from the
    checkpoint when there is one, whoever has put the job into the queue again: this class, Slurm after a lost machine
    or somebody by hand.

    Args:
        first: command of the run.
        again: command that resumes it.
        folder: of the run.
        port: at which the processes of the local executor meet; those of Slurm know theirs.
    """

    def __init__(self, first: list[str], again: list[str], folder: str, port: int) -> None:
        self.first, self.again, self.folder, self.port = first, again, folder, port
        self._child: subprocess.Popen[bytes] | None = None
        self._is_told = False

    def __call__(self) -> int:
        """Run to the end of the process.

        Raises:
            TaskFailedError: it did not end well.
        """
        job = JobEnvironment()
        signal.signal(signal.SIGTERM, self._hand_on)
        command = self.again if has_checkpoint(Path(self.folder)) else self.first
        if job.global_rank == 0 and command is self.first:
            set_aside(Path(self.folder))
        code = self._run(command, job)
        if code in STOP_CODES and job.cluster == "slurm":
            time.sleep(LINGER_S)
        if code:
            raise TaskFailedError(
                f"process {job.global_rank} of the run ended with code {code}; see {self.folder}/job.log"
            )
        return code

    def checkpoint(self) -> DelayedSubmission | None:
        """Called by submitit before the job is taken away: save, and be put into the queue again.

        Returns:
            What to run next, None when the run has come to an end of its own.
        """
        if self._child is None:
            return DelayedSubmission(self._anew())
        self._tell()
        ended = self._child.returncode  # of a process that had been told before, after whose end this task lingers
        code = end_of(self._child.pid) if ended is None else ended
        is_stopped = code < 0 or code in STOP_CODES
        return DelayedSubmission(self._anew()) if is_stopped else None

    def _anew(self) -> "ClusterTask":
        return ClusterTask(self.first, self.again, self.folder, self.port)

    def _run(self, command: list[str], job: JobEnvironment) -> int:
        environment = rank_environment(job, os.environ, Path(self.folder), self.port)
        log = Path(self.folder) / "job.log"
        with log.open("ab") as stream:
            place = {"stdout": stream, "stderr": subprocess.STDOUT} if job.global_rank == 0 else {}
            self._child = subprocess.Popen(command, env=environment, preexec_fn=_prepare, **place)  # type: ignore[call-overload]  # noqa: PLW1509
            code = end_of(self._child.pid)
        self._child.wait()
        return code

    def _hand_on(self, number: int, frame: FrameType | None) -> None:
        self._tell()

    def _tell(self) -> None:
        """Once, because a third signal ends a training at once, and Slurm may have sent it some itself."""
        if self._child is not None and self._child.returncode is None and not self._is_told:
            self._is_told = True
            os.kill(self._child.pid, signal.SIGUSR1)


def end_of(pid: int) -> int:
    """Wait for a child and leave it to be waited for again; its exit code, -n after signal n.

    A signal handler waits while the code that it interrupts does, which Popen.wait cannot: it holds a lock.
    """
    found = os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    if found is None:
        return 0
    return found.si_status if found.si_code == os.CLD_EXITED else -found.si_status


def _prepare() -> None:
    """In the child: it saves when its task dies, and leaves submitit's signal to the task."""
    linux_prctl()(SET_DEATH_SIGNAL, int(signal.SIGTERM))
    signal.signal(signal.SIGUSR2, signal.SIG_IGN)


def rank_environment(job: Any, environment: Mapping[str, str], folder: Path, port: int) -> dict[str, str]:
    """The environment of one process: Slurm has set what Lightning reads; for the local executor it is set here.

    Args:
        job: submitit's view of the task.
        environment: of the task.
        folder: of the run, after which all its processes are named.
        port: free on this machine.
    """
    own = {"RUN_ID": folder.name}
    if job.cluster == "local" and job.num_tasks > 1:
        own |= {"NODE_RANK": "0", "LOCAL_RANK": str(job.local_rank), "WORLD_SIZE": str(job.num_tasks)}
        own |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    return {**environment, **own}


def has_checkpoint(folder: Path) -> bool:
    """Whether a start goes on with the run here; all processes see the same, as none saves before all are there."""
    return (folder / "run.json").is_file() and any(folder.glob("checkpoints/*.ckpt"))


def set_aside(folder: Path) -> None:
    """Move what a start without a checkpoint has left out of the way; the log and a first stage stay."""
    if not any((folder / name).is_file() for name in ("run.json", "result.json")):
        return
    names = (folder.with_name(f"{folder.name}-aside-{n}") for n in count(1))
    aside = next(name for name in names if not name.exists())
    aside.mkdir()
    for entry in folder.iterdir():
        if entry.name not in ("job.log", "first"):
            entry.rename(aside / entry.name)
