"""Stands over one job of a sweep: hands signals on, and leaves no process of the job behind.

Started as a script by the sweep, so it imports the standard library only:
python guard.py <process id of the sweep> <grace in seconds> <command of the job ...>
"""

import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable

POLL_S = 0.05
LEFTOVER_S = 5.0
"""How long processes may outlive the job that started them, such as a rank that waits for a dead one."""

SET_DEATH_SIGNAL, SET_SUBREAPER = 1, 36
"""Of Linux's prctl(2)."""


def main(sweep: int, grace_s: float, command: list[str]) -> int:
    """Run a job to its end; its exit code, 128 + n after signal n.

    The first SIGINT or SIGTERM, or the death of the sweep, goes to all processes of the job, which have `grace_s` to
    end; the second one kills them.

    Args:
        sweep: process id of the sweep, the parent of this process.
        grace_s: seconds.
        command: of the job.
    """
    asked: list[int] = []
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda given, _: asked.append(given))
    prctl = linux_prctl()
    prctl(SET_SUBREAPER, 1)  # what the job leaves behind becomes a child of this process, which can see it end
    job = subprocess.Popen(
        command,
        start_new_session=True,
        preexec_fn=lambda: prctl(SET_DEATH_SIGNAL, int(signal.SIGKILL)),  # noqa: PLW1509  # there is one thread
    )
    n_told, deadline = 0, float("inf")
    while job.poll() is None:
        if os.getppid() != sweep and not asked:
            asked.append(signal.SIGTERM)
        if len(asked) > n_told:
            _tell(job.pid, asked[0] if n_told == 0 else signal.SIGKILL)
            n_told, deadline = len(asked), time.monotonic() + grace_s
        if time.monotonic() > deadline:
            _tell(job.pid, signal.SIGKILL)
        time.sleep(POLL_S)
    sweep_up(job.pid)
    return job.returncode if job.returncode >= 0 else 128 - job.returncode


def sweep_up(group: int, wait_s: float = LEFTOVER_S) -> None:
    """Wait a little for the other processes of a job that has ended, then kill them.

    Args:
        group: of processes.
        wait_s: seconds.
    """
    deadline = time.monotonic() + wait_s
    while _tell(group, 0) and time.monotonic() < deadline:
        _bury()
        time.sleep(POLL_S)
    _tell(group, signal.SIGKILL)


def _bury() -> None:
    """Take the exit codes of processes whose parent is gone, else they stay listed."""
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        return


def _tell(group: int, number: int) -> bool:
    """Send a signal to a process group, 0 for none; whether there is such a group."""
    try:
        os.killpg(group, number)
    except ProcessLookupError:
        return False
    return True


def linux_prctl() -> Callable[[int, int], int]:
    """Linux's prctl(2); elsewhere nothing, and a job outlives a guard that was killed with SIGKILL."""
    if sys.platform != "linux":
        return lambda option, value: 0
    call: Callable[[int, int], int] = ctypes.CDLL(None).prctl
    return call


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), float(sys.argv[2]), sys.argv[3:]))
