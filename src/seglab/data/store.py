"""The store: every case once as arrays that are mapped into memory, whatever the file format was.

Layout below the folder of prepared data:

    hashes.json                          of the raw files, so that they are read once
    entries/<case>-<key>/                one case; the key stands for its files' contents, the settings, the code
        image.npy or image.b2nd          (C, D, H, W), values as read, volumes clipped to the window
        mask.npy or mask.b2nd            (D, H, W) uint8, class index or 255
        foreground.npy                   (n, 4) int32: class, z, y, x of some pixels of each class
        signs.npy                        (D, 63) int8: what copies of a slice have in common
        facts.json                       shape, spacing, header, smallest and largest value, pixels of each class, sums
                                         of the values, findings
    <data set>-<key>/cases.json          the cases of a data set with their entries, and beside it its splits
    <data set>-<key>/in_use              locked by whoever reads it, changed when it was last opened
"""

import json
import math
import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
from numpy.typing import NDArray

from seglab.data.arrays import Stored, open_array, write_array
from seglab.data.doubts import Fit
from seglab.data.findings import Finding
from seglab.data.headers import Header
from seglab.data.intensity import Moments, measure
from seglab.data.locks import hold
from seglab.data.signs import signs
from seglab.files import sync_folder, write_text
from seglab.spec import Case

N_FOREGROUND = 2000
CASES, FACTS, ENTRIES, IN_USE = "cases.json", "facts.json", "entries", "in_use"


@dataclass(frozen=True)
class Sample:
    """One case as read from its files.

    Args:
        image: (C, D, H, W); nodata pixels are 0.
        mask: (D, H, W) uint8, class index or 255.
        valid: (D, H, W), False for nodata.
        spacing: distance of neighbouring pixels along (D, H, W).
        header: of the image file.
        fit: how well the mask explains the image.
        findings: what was noticed; their files are "image", "mask", or the name of a further image.
    """

    image: NDArray[Any]
    mask: NDArray[np.uint8]
    valid: NDArray[np.bool_]
    spacing: tuple[float, float, float]
    header: Header = field(default_factory=Header)
    fit: Fit | None = None
    findings: tuple[Finding, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Layout:
    """How samples are stored.

    Args:
        num_classes: to count pixels per class.
        clip: range that the moments are measured in.
        keeps_all: store values outside of `clip` too.
        compress: as blosc2 arrays, for volumes.
    """

    num_classes: int
    clip: tuple[float | None, float | None]
    keeps_all: bool = True
    compress: bool = False


@dataclass(frozen=True)
class Record:
    """What is known of a stored case without opening its arrays."""

    id: str
    group: str
    image_file: str
    mask_file: str
    entry: str
    shape: tuple[int, int, int, int]
    spacing: tuple[float, float, float]
    limits: tuple[float, float]
    class_pixels: tuple[int, ...]
    moments: Moments
    header: Header
    fit: Fit | None = None
    findings: tuple[Finding, ...] = ()
    metadata: Mapping[str, str] = field(default_factory=dict, hash=False)


class Store:
    """Reads the prepared cases of a data set.

    Args:
        folder: of its cases.json.
        rows: what else would stand in cases.json; nothing is written or locked then.
    """

    def __init__(self, folder: Path, rows: list[dict[str, Any]] | None = None) -> None:
        self.folder, self.is_written = folder, rows is None
        self._held = hold(folder / IN_USE) if self.is_written else None
        content = json.loads((folder / CASES).read_text(encoding="utf-8")) if rows is None else rows
        self.records = tuple(_record(entry) for entry in content)
        self._entries = {record.id: str(folder.parent / ENTRIES / record.entry) for record in self.records}

    def __getstate__(self) -> dict[str, Any]:
        """For another process, as long as this one holds the store."""
        return {**vars(self), "_held": None}

    def image(self, case_id: str) -> Stored:
        """Mapped image of a case, (C, D, H, W)."""
        return open_array(self._entries[case_id], "image")

    def mask(self, case_id: str) -> Stored:
        """Mapped mask of a case, (D, H, W)."""
        return open_array(self._entries[case_id], "mask")

    def foreground(self, case_id: str) -> NDArray[np.int32]:
        """Some pixels of each class of a case, background too, ordered by class; (n, 4): class, z, y, x."""
        rows: NDArray[np.int32] = open_array(self._entries[case_id], "foreground")
        return rows

    def places(self, case_id: str, label: int) -> NDArray[np.int32]:
        """Some pixels of one class of a case, (n, 3): z, y, x."""
        rows = self.foreground(case_id)
        first, end = np.searchsorted(rows[:, 0], (label, label + 1))
        return rows[first:end, 1:]

    def signs(self, case_id: str) -> NDArray[np.int8]:
        """What copies of the slices of a case have in common, (D, 63)."""
        found: NDArray[np.int8] = open_array(self._entries[case_id], "signs")
        return found


def write_store(folder: Path, cases: list[tuple[Case, str]]) -> Store:
    """The store of these cases, each with the name of its entry, which exists; written where it is new or has moved.

    Args:
        folder: for cases.json, beside the entries.
        cases: with their entries.
    """
    text, file = json.dumps(rows_of(folder.parent, cases), indent=1), folder / CASES
    if not file.is_file() or file.read_text(encoding="utf-8") != text:
        write_text(file, text)
    return Store(folder)


def rows_of(prepared: Path, cases: list[tuple[Case, str]]) -> list[dict[str, Any]]:
    """What cases.json says of cases, each with the name of its entry."""
    return [
        {"id": case.id, "group": case.group, "image_file": str(case.image_file), "mask_file": str(case.mask_file)}
        | {"metadata": dict(case.metadata), "entry": entry}
        | json.loads((prepared / ENTRIES / entry / FACTS).read_text(encoding="utf-8"))
        for case, entry in cases
    ]


def write_entry(folder: Path, read: Callable[[], Sample], layout: Layout) -> None:
    """Read a case and write its entry, in one piece: nothing stands under `folder` before all of it is on disk.

    Args:
        folder: of the entry.
        read: reads the case and refuses a bad one.
        layout: how it is stored.

    Raises:
        SeglabError: a bad case.
        OSError: the disk is full or cannot be written.
    """
    sample = read()
    temporary = folder.with_name(f".part-{uuid4().hex[:8]}-{folder.name}"[:255])
    temporary.mkdir(parents=True)
    try:
        _fill(temporary, sample, layout)
        sync_folder(temporary)
        try:
            temporary.rename(folder)
        except OSError:
            if not (folder / FACTS).is_file():  # else another process was faster, with the same content
                raise
        sync_folder(folder.parent)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _fill(folder: Path, sample: Sample, layout: Layout) -> None:
    mask, image = sample.mask, sample.image if layout.keeps_all else _clipped(sample.image, *layout.clip)
    write_array(folder / "image", image, compress=layout.compress)
    write_array(folder / "mask", mask, compress=layout.compress)
    write_array(folder / "foreground", some_places(mask, layout.num_classes), compress=False)
    write_array(folder / "signs", signs(image), compress=False)
    facts = {
        "shape": image.shape,
        "spacing": sample.spacing,
        "limits": (image.min().item(), image.max().item()),
        "class_pixels": [int(np.count_nonzero(mask == label)) for label in range(layout.num_classes)],
        "moments": asdict(measure(sample.image, sample.valid, *layout.clip)),
        "header": sample.header.to_dict(),
        "fit": None if sample.fit is None else asdict(sample.fit),
        "findings": [asdict(finding) for finding in sample.findings],
    }
    file = folder / FACTS
    file.write_text(json.dumps(facts), encoding="utf-8")
    with file.open("rb") as stream:
        os.fsync(stream.fileno())


def _clipped(image: NDArray[Any], low: float | None, high: float | None) -> NDArray[Any]:
    """Values beyond the range become the next whole number outside of it, in the type of the image."""
    if low is None and high is None:
        return image
    limits = np.iinfo(image.dtype) if image.dtype.kind in "iu" else np.finfo(image.dtype)
    lowest = limits.min if low is None else max(math.floor(low), limits.min)
    highest = limits.max if high is None else min(math.ceil(high), limits.max)
    clipped: NDArray[Any] = np.clip(image, image.dtype.type(lowest), image.dtype.type(highest))
    return clipped


def some_places(mask: NDArray[np.uint8], num_classes: int) -> NDArray[np.int32]:
    """Evenly chosen pixels of each class of a (D, H, W) mask, ordered by class; (n, 4): class, z, y, x."""
    rows = [np.empty((0, 4), np.int32)]
    for label in range(num_classes):
        ends = np.cumsum([np.count_nonzero(plane == label) for plane in mask])
        picked = np.linspace(0, ends[-1] - 1, min(int(ends[-1]), N_FOREGROUND)).astype(int)
        for depth, numbers in enumerate(np.split(picked, np.searchsorted(picked, ends))[: len(mask)]):
            if len(numbers):  # slice by slice: numbers of all voxels would take eight times the room of the mask
                pixels = np.flatnonzero(mask[depth] == label)
                places = np.unravel_index(pixels[numbers - (ends[depth] - len(pixels))], mask.shape[1:])
                columns = [np.full(len(numbers), label), np.full(len(numbers), depth), *places]
                rows.append(np.column_stack(columns).astype(np.int32))
    return np.concatenate(rows)


def _record(entry: dict[str, Any]) -> Record:
    moments: dict[str, Any] = _tuples(entry.pop("moments"))
    header, files = Header.from_dict(entry.pop("header")), {part: entry[f"{part}_file"] for part in ("image", "mask")}
    found = [Finding(**{**each, "file": files.get(each["file"], each["file"])}) for each in entry.pop("findings")]
    fit = entry.pop("fit")
    plain: dict[str, Any] = _tuples(entry)
    given: dict[str, Any] = {"header": header, "findings": tuple(found), "fit": None if fit is None else Fit(**fit)}
    return Record(moments=Moments(**moments), **given, **plain)


def _tuples(entry: dict[str, Any]) -> dict[str, Any]:
    return {key: tuple(value) if isinstance(value, list) else value for key, value in entry.items()}
