"""Run folders: that only one process trains in each, and which of them `resume=latest` means."""

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import IO

from seglab.errors import ConfigError

if sys.platform != "win32":
    import fcntl

LATEST = "latest"
LOCK = ".lock"


@contextmanager
def occupied(run_dir: Path, run_id: str) -> Iterator[None]:
    """Keep other processes out of a run folder; the system lets go of it when this process ends, however it ends.

    Args:
        run_dir: of the run.
        run_id: shared by all processes of this start.

    Raises:
        ConfigError: another process trains there.
    """
    with (run_dir / LOCK).open("a+", encoding="utf-8") as lock:
        if not _takes(lock):
            raise ConfigError(
                "another process trains in this run folder",
                given=str(run_dir),
                allowed="one process, or one group of ranks, in a run folder at a time",
                fix="wait for it or stop it, or start a new run without resume=...",
            )
        lock.truncate(0)
        lock.write(run_id)
        lock.flush()
        yield


def is_occupied(run_dir: Path, run_id: str) -> bool:
    """Whether processes of another start train in a run folder."""
    file = run_dir / LOCK
    if not file.is_file():
        return False
    try:
        with file.open("r+", encoding="utf-8") as lock:
            return not _takes(lock) and lock.read() != run_id
    except PermissionError:  # somebody else's run
        return True


@cache  # asked again while the run goes on, when another run may have become the newest
def latest_run(runs_dir: Path, run_id: str) -> Path:
    """The run to go on with when none is named: the newest that has a checkpoint, has not finished and is not running.

    Args:
        runs_dir: holds the runs, and folders of sweeps.
        run_id: of this start, whose own processes do not count.

    Raises:
        ConfigError: there is none.
    """
    runs = [file.parent for pattern in ("*", "*/*") for file in runs_dir.glob(f"{pattern}/run.json")]
    open_runs = [run for run in runs if not has_finished(run)]
    waiting = [run for run in open_runs if any(run.glob("checkpoints/*.ckpt")) and not is_occupied(run, run_id)]
    if not waiting:
        raise ConfigError(
            "there is no run to go on with",
            given=f"resume=latest in {runs_dir}: {len(runs)} run(s), {len(runs) - len(open_runs)} of them finished",
            allowed="a run that has a checkpoint, has not finished and is not running",
            fix="name one with resume=<run folder>, or start a new run without resume=...",
        )
    return max(waiting, key=last_change)


def has_finished(run_dir: Path) -> bool:
    """Whether a run ended as it should."""
    try:
        content = json.loads((run_dir / "result.json").read_text(encoding="utf-8"))
        return bool(content["status"] == "finished")
    except (OSError, ValueError, KeyError):
        return False


def last_change(run_dir: Path) -> float:
    """When a run was started or last wrote a checkpoint, in seconds."""
    files = [run_dir / "run.json", *run_dir.glob("checkpoints/*.ckpt")]
    return max(file.stat().st_mtime for file in files)


def _takes(lock: IO[str]) -> bool:
    """Lock an open file unless another process has; where files cannot be locked nobody is kept out."""
    if sys.platform == "win32":
        return True
    try:
        fcntl.lockf(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        return False
    except OSError:  # a network disk without locks
        return True
    return True
