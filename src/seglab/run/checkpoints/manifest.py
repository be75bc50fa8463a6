"""manifest.json beside the checkpoints: what was written, so that a damaged file is told from a sound one."""

import hashlib
import json
import logging
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from seglab.run.checkpoints.durable import durable

log = logging.getLogger("seglab")

MANIFEST = "manifest.json"
N_ENTRIES = 8
"""Entries kept of one name. Two would do, but for a process that is killed between entry and rename time and again."""


@dataclass(frozen=True)
class Entry:
    """One checkpoint file as it was written.

    Args:
        sha256: of the whole file.
        n_bytes: its size.
        epoch: finished or begun when it was written.
        step: optimizer steps behind it.
        saved: local time.
    """

    sha256: str
    n_bytes: int
    epoch: int
    step: int
    saved: str


def entry_of(file: Path, content: dict[str, Any]) -> Entry:
    """The entry of a checkpoint that lies on disk.

    Args:
        file: the checkpoint.
        content: what is in it, for epoch and step.
    """
    return new_entry(hash_of(file), file.stat().st_size, content)


def new_entry(sha256: str, n_bytes: int, content: dict[str, Any]) -> Entry:
    """The entry of a checkpoint whose hash is known."""
    epoch, step = int(content.get("epoch", 0)), int(content.get("global_step", 0))
    return Entry(sha256, n_bytes, epoch, step, time.strftime("%Y-%m-%dT%H:%M:%S%z"))


def hash_of(file: Path) -> str:
    """sha256 of a file."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def read_manifest(folder: Path) -> dict[str, list[Entry]]:
    """Entries by file name, the newest last; empty where there is no manifest, or none that can be read."""
    file = folder / MANIFEST
    if not file.is_file():
        return {}
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        return {name: [Entry(**entry) for entry in entries] for name, entries in content.items()}
    except (OSError, ValueError, TypeError, AttributeError) as error:
        log.warning(f"{file} cannot be read ({error}); checkpoints are used unchecked")
        return {}


def add_entries(folder: Path, entries: dict[str, Entry]) -> None:
    """Note what is about to be renamed into place.

    The entries that may still be on disk stay beside the new ones, so that a process which is killed before or after
    the rename leaves a manifest that fits either way.

    Args:
        folder: of the checkpoints.
        entries: by the name that the file will have.

    Raises:
        OSError: when it cannot be written.
    """
    known = read_manifest(folder)
    for name, entry in entries.items():
        known[name] = [*[old for old in known.get(name, []) if old.sha256 != entry.sha256][1 - N_ENTRIES :], entry]
    content = {name: [asdict(entry) for entry in listed] for name, listed in known.items()}
    with durable(folder / MANIFEST) as sink:
        sink.write(f"{json.dumps(content, indent=2)}\n".encode())


def find_fault(file: Path) -> str | None:
    """What is wrong with a checkpoint file; None for one that is as it was written, or of which nothing was noted.

    Args:
        file: reads all of it where the manifest lists its name.
    """
    if not file.is_file():
        return "is missing"
    if file.stat().st_size == 0:
        return "is empty"
    entries = read_manifest(file.parent).get(file.name)
    if not entries:
        return None
    if file.stat().st_size not in {entry.n_bytes for entry in entries}:
        return f"has {file.stat().st_size} bytes where {entries[-1].n_bytes} were written"
    found = hash_of(file)
    if found not in {entry.sha256 for entry in entries}:
        return f"has changed since it was written (sha256 {found[:12]}, not {entries[-1].sha256[:12]})"
    return None
