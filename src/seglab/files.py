"""Files that are never half-written: a temporary name in the same folder, then a rename."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

from seglab.errors import ConfigError


@contextmanager
def atomic_path(target: Path) -> Iterator[Path]:
    """Give a temporary path beside `target` and rename it to `target` when the block succeeds.

    The temporary name keeps the target's suffixes, so that writers which look at the name (``.nii.gz``) behave alike.
    After an exception the temporary file is removed and an older `target` stays as it was.

    Args:
        target: final path; its folder is made when missing.

    Raises:
        OSError: when the folder cannot be made or written.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".part-{uuid4().hex[:8]}-{target.name}")
    try:
        yield temporary
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(target: Path, text: str) -> None:
    """Write `text` to `target` in one piece (UTF-8).

    Raises:
        OSError: when the folder cannot be made or written.
    """
    with atomic_path(target) as temporary:
        temporary.write_text(text, encoding="utf-8")


def check_writable(folder: Path, key: str) -> None:
    """Make a folder and write into it.

    Args:
        folder: the folder.
        key: what names it in the configuration.

    Raises:
        ConfigError: when it cannot be written.
    """
    try:
        write_text(folder / ".writable", "")
        (folder / ".writable").unlink(missing_ok=True)
    except OSError as error:
        raise ConfigError(
            "the output folder cannot be written",
            given=f"{folder}: {error.strerror or error}",
            allowed="a folder you may write to, on a disk with room",
            fix=f"set {key}=<another folder>",
        ) from error


def sync_folder(folder: Path) -> None:
    """Force the names in a folder to disk, where the system can."""
    if not hasattr(os, "O_DIRECTORY"):
        return
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
