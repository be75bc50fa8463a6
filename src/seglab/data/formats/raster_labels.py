"""Labels of GeoTIFF rasters: masks read as values or classes, labels written back onto the grid of their image."""

import warnings
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rasterio.errors import NotGeoreferencedWarning
from rasterio.io import MemoryFile

from seglab.data.formats.raster import SUFFIXES, opened, plain, read_bands, read_raster, refuse
from seglab.data.integrity import shorten
from seglab.files import atomic_path
from seglab.spec import IGNORE_INDEX, Geometry

GRID_TOLERANCE_PX = 1e-3
"""How far the corners of two grids may lie apart, in pixels."""


def read_mask(path: Path, *, values: tuple[int, ...] | None) -> NDArray[np.uint8]:
    """Read a raster mask.

    Args:
        path: GeoTIFF with one band; a palette plays no part, its indices are the values.
        values: stored value of each class, by position; None: the value is the class.

    Returns:
        (1, H, W) of class indices, IGNORE_INDEX where the mask has no data.

    Raises:
        DataError: broken file, more than one band, a value without a class, or a class whose value is the nodata value.
    """
    with opened(path) as dataset:
        stored, valid = read_bands(dataset)
        nodata = dataset.nodata
    _check_band(stored, nodata, values or (), path)
    return _to_classes(stored[0], valid, range(IGNORE_INDEX + 1) if values is None else values, path)[None]


def read_values(path: Path, classes: Collection[int]) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    """Read the numbers that a mask stores.

    Args:
        path: GeoTIFF with one band; a palette plays no part, its indices are the values.
        classes: values with a meaning; none of them may be the nodata value.

    Returns:
        values: (1, H, W) whole numbers.
        valid: (1, H, W); False where the mask has no data.

    Raises:
        DataError: broken file, more than one band, fractions, or a class whose value is the nodata value.
    """
    with opened(path) as dataset:
        stored, valid = read_bands(dataset)
        nodata = dataset.nodata
    _check_band(stored, nodata, classes, path)
    whole = np.where(valid, stored, 0)
    if whole.dtype.kind == "f":
        if (whole != np.rint(whole)).any():
            refuse(path, "is no mask", "fractions", "whole numbers", "write the class values as integers")
        whole = whole.astype(np.int64)
    return whole, valid[None]


def check_same_grid(image: Path, mask: Path) -> None:
    """Refuse a mask that lies on another grid than its image; nothing is ever resampled to fit.

    Raises:
        DataError: says which of CRS, size and transform differ, and both values.
    """
    with opened(image) as first, opened(mask) as second:
        differing = [
            f"{name}: image {plain(getattr(first, name))}, mask {plain(getattr(second, name))}"
            for name, differs in (
                ("crs", first.crs != second.crs),
                ("shape", first.shape != second.shape),
                ("transform", _apart_px(first, second) > GRID_TOLERANCE_PX),
            )
            if differs
        ]
    if differing:
        refuse(
            mask,
            f"does not lie on the grid of its image {image}",
            "; ".join(differing),
            "the same CRS, size and transform",
            "rasterize or warp the mask onto the image's grid (gdalwarp -r near -te ... -ts ...)",
        )


def write_labels(
    labels: NDArray[np.uint8],
    like: Path,
    target: Path,
    *,
    mask_values: Sequence[int],
    nodata: int | None = IGNORE_INDEX,
    colors: Sequence[tuple[int, int, int]],
) -> None:
    """Write labels onto the grid of the raster they were predicted from, in one piece.

    A tiled, deflated uint8 GeoTIFF with colour table; CRS, transform and size are those of `like`.

    Args:
        labels: (1, H, W) class indices, IGNORE_INDEX where unknown.
        like: the image that was read; where it is invalid, `nodata` is written.
        target: .tif or .tiff.
        mask_values: number written for each class.
        nodata: number written where there is no label; None: `like`'s nodata is not marked and no label may be unknown.
        colors: RGB of each class.

    Raises:
        DataError: labels of another size or without a class, or a class value that is the nodata value.
        OSError: when the target cannot be written; no file is left under its name.
    """
    _, valid, geometry = read_raster(like, require_crs=False)
    _check_writable(labels, geometry, target, mask_values=mask_values, nodata=nodata, colors=colors)
    table = np.zeros(256, dtype=np.uint8)
    table[: len(mask_values)] = mask_values
    written = table[labels]
    if nodata is not None:
        written[~valid | (labels == IGNORE_INDEX)] = nodata
    content = _encode(written, like, nodata, dict(zip(mask_values, colors, strict=True)))
    with atomic_path(target) as temporary:
        temporary.write_bytes(content)


def _check_band(stored: NDArray[Any], nodata: float | None, values: Collection[int], path: Path) -> None:
    if len(stored) != 1:
        refuse(path, "is no mask", f"{len(stored)} bands", "one band", "write the class values into a single band")
    if nodata in values:
        refuse(
            path,
            "declares a class value as nodata",
            f"nodata {nodata:g}, class values {sorted(values)[:20]}",
            "a nodata value that no class has",
            f"take {nodata:g} out of the class values to ignore it, or: rio edit-info --unset-nodata {path}",
        )


def _to_classes(stored: NDArray[Any], valid: NDArray[np.bool_], values: Sequence[int], path: Path) -> NDArray[np.uint8]:
    classes = np.full(stored.shape, IGNORE_INDEX, dtype=np.uint8)
    found, counts = np.unique(stored[valid], return_counts=True)
    odd = ~np.isin(found, list(values))
    if odd.any():
        given = shorten(f"{v:g} ({n} pixels)" for v, n in zip(found[odd], counts[odd], strict=True))
        allowed = f"{values[0]} to {values[-1]}" if isinstance(values, range) else str(list(values))
        refuse(path, "holds mask values that no class has", given, allowed, "declare the values, or correct the mask")
    for value in found:
        classes[valid & (stored == value)] = values.index(int(value))
    return classes


def _apart_px(first: Any, second: Any) -> float:
    """Largest distance of corresponding corners of two grids, in pixels of the first."""
    height, width = first.shape
    corners = [(0, 0), (width, 0), (0, height), (width, height)]
    if first.transform.is_degenerate:
        return 0.0 if first.transform == second.transform else float("inf")
    back = ~first.transform
    return max(float(np.hypot(*np.subtract(back @ (second.transform @ corner), corner))) for corner in corners)


def _check_writable(
    labels: NDArray[np.uint8],
    geometry: Geometry,
    target: Path,
    *,
    mask_values: Sequence[int],
    nodata: int | None,
    colors: Sequence[tuple[int, int, int]],
) -> None:
    found = np.unique(labels).tolist()
    legal = {*range(len(mask_values)), *([] if nodata is None else [IGNORE_INDEX])}
    numbers = [*mask_values, *([] if nodata is None else [nodata])]
    distinct = len(set(numbers)) == len(numbers) and all(0 <= number <= 255 for number in numbers)
    is_whole = labels.shape == (1, *geometry.shape) and legal.issuperset(found) and len(colors) == len(mask_values)
    if not distinct or not is_whole or target.suffix not in SUFFIXES:
        refuse(
            target,
            "cannot be written",
            f"labels {labels.shape} with values {found}, {len(colors)} colours, mask values {list(mask_values)}, "
            f"nodata {nodata}",
            f"labels {(1, *geometry.shape)} below {len(mask_values)}, one colour for each class, distinct mask values "
            f"and nodata from 0 to 255, a target in {' or '.join(SUFFIXES)}",
            "give one value and colour for each class and a free nodata value, e.g. 255",
        )


def _encode(written: NDArray[np.uint8], like: Path, nodata: int | None, color_of: dict[int, Any]) -> bytes:
    """The bytes of the GeoTIFF; made in memory, as GDAL may not tell that a disk filled up while it closed a file."""
    with opened(like) as source:
        grid = {name: getattr(source, name) for name in ("height", "width", "crs", "transform")}
        pixel_is = source.tags().get("AREA_OR_POINT", "Area")
    coding = {"tiled": True, "blockxsize": 256, "blockysize": 256, "compress": "deflate"}
    with warnings.catch_warnings(), MemoryFile() as memory:
        warnings.simplefilter("ignore", NotGeoreferencedWarning)  # like the image
        with memory.open(driver="GTiff", dtype="uint8", count=1, nodata=nodata, **grid, **coding) as sink:
            sink.update_tags(AREA_OR_POINT=pixel_is)
            sink.write_colormap(1, color_of)  # first: once pixels are written GDAL cannot turn the band into a palette
            sink.write(written)
        return bytes(memory.read())
