"""What lies in the folder of prepared data, and freeing what nobody used lately."""

import json
import re
import shutil
import time
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from os.path import commonpath
from pathlib import Path
from uuid import uuid4

from seglab.data.contents import forget_missing
from seglab.data.locks import alone
from seglab.data.preparation import PREPARING, remove_remains
from seglab.data.store import CASES, ENTRIES, IN_USE
from seglab.errors import DataError

DAY_S = 86_400
_ADDRESS = re.compile(r"(\w{2,}):/(?!/)")


@dataclass(frozen=True)
class Shelved:
    """A prepared data set.

    Args:
        folder: of its cases.json.
        root: what the files it was made of have in common.
        entries: names of its cases' entries.
        n_bytes: of these entries, which other data sets may use too.
        used: when it was last opened, seconds since 1970.
        in_use: a process has it open.
    """

    folder: Path
    root: str
    entries: tuple[str, ...]
    n_bytes: int
    used: float
    in_use: bool


def shelved(prepared: Path) -> list[Shelved]:
    """The prepared data sets, the one that was used last first."""
    found = [_shelved(file.parent) for file in prepared.glob(f"*/{CASES}")]
    return sorted(found, key=lambda each: -each.used)


def loose_entries(prepared: Path, stores: Iterable[Shelved]) -> list[Path]:
    """Entries that belong to none of these data sets."""
    used = {name for store in stores for name in store.entries}
    return [entry for entry in sorted((prepared / ENTRIES).glob("*")) if entry.name not in used]


def clean(prepared: Path, *, keep_days: float) -> tuple[list[Shelved], list[Path], int]:
    """Remove the data sets that nobody has used lately, and the entries that belong to none that is left.

    What a process has open stays. While this runs no other process prepares; whoever starts to waits.

    Args:
        prepared: folder of everything prepared.
        keep_days: since the last use.

    Returns:
        Data sets and entries that were removed, and the bytes that are free now.

    Raises:
        DataError: data is being prepared right now.
    """
    with ExitStack() as held:
        if not held.enter_context(alone(prepared / PREPARING)):
            raise DataError(
                "data is being prepared right now",
                given=f"{prepared / PREPARING} is held by another process",
                allowed="nobody who prepares meanwhile",
                fix="try again when it is done",
            )
        remove_remains(prepared / ENTRIES, older_than_s=0)
        oldest = time.time() - keep_days * DAY_S
        old = [store for store in shelved(prepared) if store.used < oldest and not store.in_use]
        gone = [store for store in old if held.enter_context(alone(store.folder / IN_USE))]
        for store in gone:
            _remove(store.folder)
        entries = loose_entries(prepared, shelved(prepared))
        n_bytes = sum(map(_n_bytes, entries))
        for entry in entries:
            _remove(entry)
        forget_missing(prepared / "hashes.json")
    return gone, entries, n_bytes


def _shelved(folder: Path) -> Shelved:
    rows = json.loads((folder / CASES).read_text(encoding="utf-8"))
    entries = tuple(row["entry"] for row in rows)
    mark = folder / IN_USE
    with alone(mark) as is_free:
        return Shelved(
            folder=folder,
            root=_in_common([row[f"{part}_file"] for row in rows for part in ("image", "mask")]),
            entries=entries,
            n_bytes=sum(_n_bytes(folder.parent / ENTRIES / name) for name in entries),
            used=mark.stat().st_mtime,
            in_use=not is_free,
        )


def _in_common(files: Sequence[str]) -> str:
    """Folder or address of all files; an address that was kept as a path has lost one of its slashes."""
    if _ADDRESS.match(files[0]):
        return _ADDRESS.sub(r"\1://", commonpath(files))
    return commonpath([Path(file).absolute() for file in files])


def _n_bytes(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


def _remove(folder: Path) -> None:
    """Take the name away first: what is half removed must not be taken for whole."""
    doomed = folder.with_name(f".part-{uuid4().hex[:8]}-{folder.name}"[:255])
    folder.rename(doomed)
    shutil.rmtree(doomed, ignore_errors=True)
