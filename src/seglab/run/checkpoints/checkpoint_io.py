"""CheckpointFiles: how checkpoints get to disk; a kill, a full disk or a damaged file loses one interval at most.

A state is streamed into a temporary file in the same folder while its hash is taken, forced to disk, entered in
manifest.json and renamed. What stood there before stays whole until then; of last.ckpt one older state is kept.
"""

import errno
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins import CheckpointIO
from torch import Tensor

from seglab.errors import CheckpointError
from seglab.run.checkpoints.durable import PART, Sink, durable, part_of
from seglab.run.checkpoints.manifest import Entry, add_entries, entry_of, new_entry
from seglab.run.checkpoints.plain import NOT_PLAIN, local_file, not_plain, read_checkpoint

LAST, PREVIOUS = "last.ckpt", "previous.ckpt"
NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class CheckpointFiles(CheckpointIO):
    """Lightning's way to checkpoint files: whole or not at all, listed by hash, plain data only.

    Only one process of a run writes. Whatever temporary file lies in the folder when it starts to is left over from a
    process that died, and is removed.
    """

    def __init__(self) -> None:
        self._known: dict[Path, Entry] = {}
        self._is_proven = False

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | os.PathLike[str], storage_options: Any | None = None
    ) -> None:
        """Write a state; the file of that name holds the old state until the new one is safe.

        Args:
            checkpoint: plain data.
            path: final name.
            storage_options: takes none.

        Raises:
            CheckpointError: no room, no right to write, or a state that is not plain data.
        """
        file = local_file(path)
        with disk_errors(file, checkpoint):
            file.parent.mkdir(parents=True, exist_ok=True)
            for left_over in file.parent.glob(f"{PART}*"):
                left_over.unlink(missing_ok=True)
            with durable(file) as sink:
                write_plain(checkpoint, sink)
                sink.sync()
                self._prove(sink.file, checkpoint)
                entry = new_entry(sink.hash.hexdigest(), sink.n_bytes, checkpoint)
                self._keep_previous(file, entry)
        self._known[file] = entry

    def load_checkpoint(
        self, path: str | os.PathLike[str], map_location: Any | None = None, weights_only: bool | None = None
    ) -> dict[str, Any]:
        """Read a state as plain data, after its hash has been compared.

        Args:
            path: a local file; addresses are refused.
            map_location: where tensors go, the CPU if not given.
            weights_only: always True, whatever is asked for.

        Raises:
            CheckpointError: a missing, damaged or foreign file.
        """
        return read_checkpoint(local_file(path), map_location)

    def remove_checkpoint(self, path: str | os.PathLike[str]) -> None:
        """Remove a file that is no longer wanted."""
        local_file(path).unlink(missing_ok=True)

    def _prove(self, written: Path, checkpoint: dict[str, Any]) -> None:
        """Read the first state back as plain data, before it takes any other's place."""
        if self._is_proven:
            return
        try:
            torch.load(written, map_location="cpu", weights_only=True, mmap=True)
        except NOT_PLAIN as error:
            raise not_plain(checkpoint) from error
        self._is_proven = True

    def _keep_previous(self, file: Path, entry: Entry) -> None:
        """Enter the new file in the manifest, and give a sound last.ckpt its second name."""
        old = self._sound(file) if file.name == LAST else None
        previous = file.with_name(PREVIOUS)
        add_entries(file.parent, {file.name: entry} | ({PREVIOUS: old} if old else {}))
        if old:
            temporary = part_of(previous)
            try:
                os.link(file, temporary)
                temporary.replace(previous)
            except OSError:  # a disk without links: for a moment there is no last.ckpt, but a previous one
                file.replace(previous)
            finally:
                temporary.unlink(missing_ok=True)  # it stays where both names meant one file already

    def _sound(self, file: Path) -> Entry | None:
        """The entry of the file that is about to be replaced, None for one that is not worth keeping."""
        if file in self._known or not file.is_file():
            return self._known.get(file) if file.is_file() else None
        try:
            return entry_of(file, read_checkpoint(file))
        except CheckpointError:
            return None


def write_plain(content: dict[str, Any], sink: Sink) -> None:
    """Stream a state into a file without a second copy of it in memory.

    Raises:
        OSError: the error of the disk, also where torch reports a position it did not expect.
        CheckpointError: something that cannot be written at all.
    """
    try:
        torch.save(content, sink)  # type: ignore[arg-type]  # it asks for write() alone
    except NOT_PLAIN as error:
        raise not_plain(content) from error
    except RuntimeError as error:
        raise sink.error or error from error


@contextmanager
def disk_errors(file: Path, content: Mapping[str, Any]) -> Iterator[None]:
    """Turn an error of the disk into one that says which disk, and how much room there is.

    Raises:
        CheckpointError: in place of an OSError.
    """
    try:
        yield
    except OSError as error:
        folder = next(parent for parent in file.absolute().parents if parent.is_dir())
        disk = next((parent for parent in (folder, *folder.parents) if parent.is_mount()), folder)
        what = "no room for the checkpoint" if error.errno in NO_ROOM else "the checkpoint cannot be written"
        raise CheckpointError(
            what,
            given=f"{file}: {error.strerror or error}; it needs {size_of(content):,} bytes, {free_bytes(folder):,} are "
            f"free on the disk at {disk}",
            allowed="a folder you may write to, with room for one checkpoint more; the older ones are as they were",
            fix=f"make room, then go on with resume={file.parent.parent}",
        ) from error


def free_bytes(folder: Path) -> int:
    """Bytes that may still be written to the disk of a folder."""
    if not hasattr(os, "statvfs"):
        return 0
    disk = os.statvfs(folder)
    return disk.f_bavail * disk.f_frsize


def size_of(content: Any) -> int:
    """Bytes of all tensors in nested plain data."""
    if isinstance(content, Tensor):
        return content.nbytes
    parts = content.values() if isinstance(content, Mapping) else content if isinstance(content, list | tuple) else ()
    return sum(size_of(part) for part in parts)
