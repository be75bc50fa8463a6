"""A DICOM series in a folder as one volume: slices ordered by where they lie, never by their number or file name.

A series is read when it is one stack of parallel slices at equal distances; what is missing, doubled, tilted or mixed
in is named and refused, as a volume made of it would be wrong.
"""

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from seglab.data.formats import grid
from seglab.data.formats.dicom_files import Slice, decode, open_slices
from seglab.data.integrity import shorten
from seglab.errors import DataError
from seglab.spec import Geometry

DIRECTION_TOLERANCE = 1e-3
"""How far the directions of two slices, or of a slice and the axis of the stack, may differ."""

GAP_TOLERANCE = 0.1
"""How far the distance of two slices may differ from the others', as a share of it."""

_SAME_PLACE_MM = 1e-3


def read_volume(folder: Path, series: str | None = None) -> tuple[NDArray[Any], Geometry]:
    """Read a series as a 3-D volume.

    Args:
        folder: holds the files of one series; texts and hidden files beside them do not count.
        series: SeriesInstanceUID, when the folder holds several.

    Returns:
        image: (1, D, H, W) in reading order, rescale slope and intercept applied; int16 when every value is an integer
            in its range, else float32.
        geometry: shape (columns, rows, slices from the lowest along the normal), affine to RAS, spacing of the array.

    Raises:
        DataError: no series or several, a broken or cut file, slices that are missing, doubled, tilted, of different
            sizes or directions, or pixels that cannot be decoded.
        ConfigError: pydicom is not installed.
    """
    slices = read_series(folder, series)
    geometry = geometry_of(slices, folder)
    stored = np.stack([decode(item).T for item in slices], axis=-1)  # (columns, rows, slices)
    return grid.to_reading_order(grid.native(stored), geometry)[None], geometry


def read_geometry(folder: Path, series: str | None = None) -> Geometry:
    """Read only the headers.

    Raises:
        DataError: as `read_volume`, but for pixels.
    """
    return geometry_of(read_series(folder, series), folder)


def read_series(folder: Path, series: str | None = None) -> list[Slice]:
    """The slices of a series in the order of their places along the normal, all checks but those of pixels done.

    Raises:
        DataError: as `read_volume`.
    """
    slices = _chosen(open_slices(folder), series, folder)
    _check_alike(slices, folder)
    normal = np.cross(slices[0].row, slices[0].column)
    ordered = sorted(slices, key=lambda item: float(item.position @ normal))
    _check_places(ordered, normal, folder)
    return ordered


def geometry_of(slices: Sequence[Slice], folder: Path) -> Geometry:
    """Where an ordered stack lies; the distance of slices comes from their positions, not from the slice thickness."""
    first, n = slices[0], len(slices)
    affine = np.eye(4)
    affine[:3, 0] = first.row * first.pixel_mm[1]
    affine[:3, 1] = first.column * first.pixel_mm[0]
    affine[:3, 2] = (slices[-1].position - first.position) / (n - 1)
    affine[:3, 3] = first.position
    return grid.geometry_of((first.size[1], first.size[0], n), grid.LPS_TO_RAS @ affine, folder)


def _chosen(slices: list[Slice], series: str | None, folder: Path) -> list[Slice]:
    by_series: dict[str, list[Slice]] = {}
    for item in slices:
        by_series.setdefault(item.series, []).append(item)
    if series is None and len(by_series) == 1:
        return slices
    if series in by_series:
        return by_series[series]
    found = (f"{uid} ({same[0].description or 'no description'}, {len(same)} files)" for uid, same in by_series.items())
    raise DataError(
        f"{folder} holds {len(by_series)} DICOM series, and which one is meant is not said",
        given=shorten(found) if series is None else f"{series}; found: {shorten(found)}",
        allowed="one series in a folder, or the SeriesInstanceUID of one of them",
        fix="move the files of each series into a folder of its own",
    )


def _check_alike(slices: list[Slice], folder: Path) -> None:
    first = slices[0]
    for name, differs in (
        ("size", lambda item: item.size != first.size),
        ("pixel spacing", lambda item: not np.allclose(item.pixel_mm, first.pixel_mm, rtol=DIRECTION_TOLERANCE)),
        ("direction", lambda item: not _parallel(item, first)),
        ("frame of reference", lambda item: item.frame != first.frame),
    ):
        odd = [item for item in slices if differs(item)]
        if odd:
            _refuse(
                folder,
                f"holds slices of another {name}, such as a localizer",
                f"{len(odd)} differ from {first.file.name}: {shorten(item.file.name for item in odd)}",
                "slices of one size, spacing and direction",
                "take these files out of the folder",
            )
    if len(slices) < 2:
        _refuse(folder, "holds a single slice", first.file.name, "at least two slices", "fetch the whole series")


def _parallel(one: Slice, other: Slice) -> bool:
    same = np.abs([one.row - other.row, one.column - other.column]).max()
    return bool(same <= DIRECTION_TOLERANCE)


def _check_places(ordered: list[Slice], normal: NDArray[np.float64], folder: Path) -> None:
    places = np.array([float(item.position @ normal) for item in ordered])
    gaps = np.diff(places)
    pairs = list(pairwise(ordered))
    doubled = [pair for pair, gap in zip(pairs, gaps, strict=True) if gap < _SAME_PLACE_MM]
    if doubled:
        _refuse(
            folder,
            "holds two slices of one place",
            shorten(f"{a.file.name} and {b.file.name} at {a.position.tolist()}" for a, b in doubled),
            "one slice for each place",
            "keep one file of each pair, or give each series a folder of its own",
        )
    usual = float(np.median(gaps))
    wide = [(pair, gap) for pair, gap in zip(pairs, gaps, strict=True) if abs(gap - usual) > GAP_TOLERANCE * usual]
    if wide:
        _refuse(
            folder,
            "lacks slices, or its slices lie at different distances",
            shorten(f"{gap:.3g} mm from {a.file.name} to {b.file.name}" for (a, b), gap in wide),
            f"{usual:.4g} mm between neighbours, as between most of these {len(ordered)} slices",
            "fetch the missing files again; a series of varying distances has to be resampled first",
        )
    way = ordered[-1].position - ordered[0].position
    if np.linalg.norm(way / np.linalg.norm(way) - normal) > DIRECTION_TOLERANCE * 10:
        angle = float(np.degrees(np.arccos(np.clip(way @ normal / np.linalg.norm(way), -1, 1))))
        _refuse(
            folder,
            "was taken with a tilted gantry: its slices are shifted against each other",
            f"{angle:.1f} degrees between the stack and the normal of its slices",
            "slices that lie straight above each other",
            "resample the series onto a straight grid first",
        )


def _refuse(folder: Path, what: str, given: str, allowed: str, fix: str) -> None:
    raise DataError(f"{folder} {what}", given=given, allowed=allowed, fix=fix)
