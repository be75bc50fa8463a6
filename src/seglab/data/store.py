"""The store: every case once as plain arrays that are mapped into memory, whatever the file format was.

Layout of a store folder (its name carries the key, so a changed file or setting makes a new store):

    cases.json              one record per case, written last
    <case>/image.npy        (C, D, H, W), values as read
    <case>/mask.npy         (D, H, W) uint8, class index or 255
    <case>/foreground.npy   (n, 4) int32: class, z, y, x of some pixels of each foreground class
"""

import hashlib
import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
from numpy.typing import NDArray

from seglab.data.findings import gather
from seglab.data.intensity import Moments, measure
from seglab.spec import Case

STORE_VERSION = 1
N_FOREGROUND = 2000


@dataclass(frozen=True)
class Sample:
    """One case as read from its files.

    Args:
        image: (C, D, H, W); nodata pixels are 0.
        mask: (D, H, W) uint8, class index or 255.
        valid: (D, H, W), False for nodata.
        spacing: distance of neighbouring pixels along (D, H, W).
    """

    image: NDArray[Any]
    mask: NDArray[np.uint8]
    valid: NDArray[np.bool_]
    spacing: tuple[float, float, float]


@dataclass(frozen=True)
class Record:
    """What is known of a stored case without opening its arrays."""

    id: str
    group: str
    image_file: str
    mask_file: str
    shape: tuple[int, int, int, int]
    spacing: tuple[float, float, float]
    class_pixels: tuple[int, ...]
    moments: Moments


class Store:
    """Reads a finished store folder.

    Args:
        folder: the store folder.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        content = json.loads((folder / "cases.json").read_text(encoding="utf-8"))
        self.records = tuple(_record(entry) for entry in content)

    def image(self, case_id: str) -> NDArray[Any]:
        """Mapped image of a case, (C, D, H, W)."""
        return _mapped(self.folder / case_id / "image.npy")

    def mask(self, case_id: str) -> NDArray[np.uint8]:
        """Mapped mask of a case, (D, H, W)."""
        return _mapped(self.folder / case_id / "mask.npy")

    def foreground(self, case_id: str) -> NDArray[np.int32]:
        """Some foreground pixels of a case, (n, 4): class, z, y, x."""
        return _mapped(self.folder / case_id / "foreground.npy")


def store_key(name: str, cases: Sequence[Case], settings: dict[str, Any]) -> str:
    """Name of the store folder: data set and a hash of its files (path, size, time of change) and settings."""
    files = [
        (case.id, case.group, *((str(file), *_stamp(file)) for file in (case.image_file, case.mask_file)))
        for case in cases
    ]
    content = json.dumps([STORE_VERSION, name, settings, files], sort_keys=True, default=str)
    return f"{name}-{hashlib.sha256(content.encode()).hexdigest()[:12]}"


def build_store(
    folder: Path,
    cases: Sequence[Case],
    read: Callable[[Case], Sample],
    *,
    num_classes: int,
    clip: tuple[float | None, float | None],
) -> Store:
    """Read every case and write the store; nothing stands under `folder` before all of it is there.

    Args:
        folder: final folder.
        cases: what to read.
        read: reads one case and refuses a bad one.
        num_classes: to count pixels per class.
        clip: range that the moments are measured in.

    Raises:
        SeglabError: every bad case, named.
    """
    temporary = folder.with_name(f".part-{folder.name}-{uuid4().hex[:8]}")
    try:
        records = gather(cases, lambda case: _write_case(temporary / case.id, case, read(case), num_classes, clip))
        (temporary / "cases.json").write_text(json.dumps([asdict(record) for record in records], indent=1))
        try:
            temporary.rename(folder)
        except OSError:
            if not (folder / "cases.json").is_file():  # else another process was faster, with the same content
                raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return Store(folder)


def _write_case(
    folder: Path, case: Case, sample: Sample, num_classes: int, clip: tuple[float | None, float | None]
) -> Record:
    folder.mkdir(parents=True)
    np.save(folder / "image.npy", np.ascontiguousarray(sample.image))
    np.save(folder / "mask.npy", np.ascontiguousarray(sample.mask))
    np.save(folder / "foreground.npy", _foreground(sample.mask, num_classes))
    channels, depth, height, width = sample.image.shape
    return Record(
        id=case.id,
        group=case.group,
        image_file=str(case.image_file),
        mask_file=str(case.mask_file),
        shape=(channels, depth, height, width),
        spacing=sample.spacing,
        class_pixels=tuple(int(np.count_nonzero(sample.mask == label)) for label in range(num_classes)),
        moments=measure(sample.image, sample.valid, *clip),
    )


def _foreground(mask: NDArray[np.uint8], num_classes: int) -> NDArray[np.int32]:
    rows = [np.empty((0, 4), np.int32)]
    for label in range(1, num_classes):
        pixels = np.flatnonzero(mask == label)
        picked = pixels[np.linspace(0, len(pixels) - 1, min(len(pixels), N_FOREGROUND)).astype(int)]
        places = np.unravel_index(picked, mask.shape)
        rows.append(np.column_stack([np.full(len(picked), label), *places]).astype(np.int32))
    return np.concatenate(rows)


def _record(entry: dict[str, Any]) -> Record:
    moments: dict[str, Any] = _tuples(entry.pop("moments"))
    plain: dict[str, Any] = _tuples(entry)
    return Record(moments=Moments(**moments), **plain)


def _tuples(entry: dict[str, Any]) -> dict[str, Any]:
    return {key: tuple(value) if isinstance(value, list) else value for key, value in entry.items()}


def _stamp(file: Path) -> tuple[int, int]:
    """Size and time of change; of a file that is gone, which reading will tell, -1."""
    return (file.stat().st_size, file.stat().st_mtime_ns) if file.exists() else (-1, -1)


@lru_cache(maxsize=256)  # each mapped file keeps a file descriptor, of which a process may have 1024
def _mapped(file: Path) -> NDArray[Any]:
    array: NDArray[Any] = np.load(file, mmap_mode="r", allow_pickle=False)
    return array
