"""Locks on files that end with the process that holds them, also when it is killed.

Advisory locks of the system (flock), which its forked children share; where there are none, nothing is locked.
"""

import importlib
import importlib.util
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

fcntl: Any = importlib.import_module("fcntl") if importlib.util.find_spec("fcntl") else None


class Held:
    """A file that others cannot have for themselves as long as this lives.

    Args:
        file: made when missing; its time of change is set to now.

    Raises:
        OSError: it cannot be written.
    """

    def __init__(self, file: Path) -> None:
        self._stream: IO[str] | None = None
        file.parent.mkdir(parents=True, exist_ok=True)
        self._stream = file.open("a", encoding="utf-8")
        os.utime(file)
        if fcntl is not None:
            fcntl.flock(self._stream, fcntl.LOCK_SH)

    def close(self) -> None:
        """Let go."""
        if self._stream is not None:
            self._stream.close()

    def __del__(self) -> None:
        self.close()


def hold(file: Path) -> Held | None:
    """Say that something is in use; waits while another process has it for itself.

    Args:
        file: made when missing.

    Returns:
        None where the file cannot be written, such as in a folder of somebody else.
    """
    try:
        return Held(file)
    except OSError:
        return None


@contextmanager
def turn(file: Path) -> Iterator[None]:
    """Wait until nobody else is in such a block, and go in; without waiting where the file cannot be written."""
    stream = None
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        stream = file.open("a", encoding="utf-8")
        if fcntl is not None:
            fcntl.flock(stream, fcntl.LOCK_EX)
    except OSError:
        pass
    try:
        yield
    finally:
        if stream is not None:
            stream.close()


@contextmanager
def alone(file: Path) -> Iterator[bool]:
    """Whether nobody holds a file; if so, all who want to hold it wait for the end of the block.

    Args:
        file: made when missing.
    """
    if fcntl is None:
        yield True
        return
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("a", encoding="utf-8") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            is_alone = True
        except OSError:
            is_alone = False
        yield is_alone
