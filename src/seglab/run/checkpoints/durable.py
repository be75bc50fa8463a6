"""Files that outlive a crash of the machine: forced to disk under a temporary name in the same folder, then renamed."""

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO
from uuid import uuid4

from seglab.files import sync_folder

PART = ".part-"
"""Begins the name of every temporary file."""


class Sink:
    """A file being written, with the hash of what went into it.

    Args:
        stream: open for writing.
        file: its name.
    """

    def __init__(self, stream: IO[bytes], file: Path) -> None:
        self.stream, self.file, self.hash, self.n_bytes = stream, file, hashlib.sha256(), 0
        self.error: OSError | None = None

    def write(self, data: memoryview | bytes) -> int:
        """Append; remembers an error, of which torch may tell another story."""
        try:
            n_bytes = self.stream.write(data)
        except OSError as error:
            self.error = error
            raise
        self.hash.update(data)
        self.n_bytes += n_bytes
        return n_bytes

    def flush(self) -> None:
        """Hand what is buffered to the system."""
        self.stream.flush()

    def sync(self) -> None:
        """Force everything to disk."""
        self.flush()
        os.fsync(self.stream.fileno())


def part_of(target: Path) -> Path:
    """A temporary name in the same folder, with another ending than the target's."""
    return target.with_name(f"{PART}{uuid4().hex[:8]}-{target.name}.tmp")


@contextmanager
def durable(target: Path) -> Iterator[Sink]:
    """A temporary file beside `target`, renamed to it when the block succeeds, removed when not."""
    temporary = part_of(target)
    try:
        with temporary.open("wb") as stream:
            sink = Sink(stream, temporary)
            yield sink
            sink.sync()
        temporary.replace(target)
        sync_folder(target.parent)
    finally:
        temporary.unlink(missing_ok=True)
