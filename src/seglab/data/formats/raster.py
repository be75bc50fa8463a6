"""GeoTIFF rasters: bands with their grid and their nodata, labels written back onto the same grid."""

import warnings
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.enums import ColorInterp, MaskFlags
from rasterio.errors import NotGeoreferencedWarning, RasterioError
from rasterio.io import MemoryFile

from seglab.data.integrity import check_file, shorten
from seglab.errors import DataError
from seglab.files import atomic_path
from seglab.spec import IGNORE_INDEX, Geometry

SUFFIXES = (".tif", ".tiff")
MAX_VALUES = 2_000_000_000
"""Bands x height x width that a header may announce: a sparse file of 7 MB can claim 120 GB."""

GRID_TOLERANCE_PX = 1e-3
"""How far the corners of two grids may lie apart, in pixels."""

_NATIVE = ("uint8", "uint16", "int16", "float32")
_REAL_KINDS = "iuf"


def read_raster(path: Path, *, require_crs: bool = True) -> tuple[NDArray[Any], NDArray[np.bool_], Geometry]:
    """Read all bands of a raster.

    A band tagged alpha that holds only 0 and full scale is no channel: it says where the raster is valid. With other
    values it is a channel, as GDAL tags the fourth band of any 8-bit file so, near infrared too. Values of invalid
    pixels are set to 0, so that no fill value reaches a network.

    Args:
        path: GeoTIFF.
        require_crs: refuse a raster without coordinate reference system or transform.

    Returns:
        image: (C, 1, H, W); uint8, uint16, int16 or float32 as stored, int8 as int16, other numbers as float32.
        valid: (1, H, W); False where any band is nodata, masked, transparent, NaN or infinite.
        geometry: size, transform, pixel size in units of the CRS.

    Raises:
        DataError: broken or cut file, complex numbers, too large, no CRS or no transform where they are required.
    """
    with opened(path) as dataset:
        geometry = geometry_of(dataset, path, require_crs)
        stored, valid = _read(dataset)
    image = np.where(valid, stored, 0).astype(native_dtype(stored.dtype))
    return image[:, None], valid[None], geometry


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
        stored, valid = _read(dataset)
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
        stored, valid = _read(dataset)
        nodata = dataset.nodata
    _check_band(stored, nodata, classes, path)
    whole = np.where(valid, stored, 0)
    if whole.dtype.kind == "f":
        if (whole != np.rint(whole)).any():
            _refuse(path, "is no mask", "fractions", "whole numbers", "write the class values as integers")
        whole = whole.astype(np.int64)
    return whole, valid[None]


def _check_band(stored: NDArray[Any], nodata: float | None, values: Collection[int], path: Path) -> None:
    if len(stored) != 1:
        _refuse(path, "is no mask", f"{len(stored)} bands", "one band", "write the class values into a single band")
    if nodata in values:
        _refuse(
            path,
            "declares a class value as nodata",
            f"nodata {nodata:g}, class values {sorted(values)[:20]}",
            "a nodata value that no class has",
            f"take {nodata:g} out of the class values to ignore it, or: rio edit-info --unset-nodata {path}",
        )


def check_same_grid(image: Path, mask: Path) -> None:
    """Refuse a mask that lies on another grid than its image; nothing is ever resampled to fit.

    Raises:
        DataError: says which of CRS, size and transform differ, and both values.
    """
    with opened(image) as first, opened(mask) as second:
        differing = [
            f"{name}: image {_plain(getattr(first, name))}, mask {_plain(getattr(second, name))}"
            for name, differs in (
                ("crs", first.crs != second.crs),
                ("shape", first.shape != second.shape),
                ("transform", _apart_px(first, second) > GRID_TOLERANCE_PX),
            )
            if differs
        ]
    if differing:
        _refuse(
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


@contextmanager
def opened(path: Path, *, most_values: int | None = MAX_VALUES) -> Iterator[Any]:
    """Open a GeoTIFF with rasterio.

    Args:
        path: GeoTIFF.
        most_values: what its header may announce; None for no limit, where only parts are read.

    Raises:
        DataError: broken file, complex numbers, or too large; also for errors while the file is open.
    """
    check_file(path, SUFFIXES)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", NotGeoreferencedWarning)  # judged by `require_crs`
            with rasterio.open(path, driver="GTiff") as dataset:
                _check_header(dataset, path, most_values)
                yield dataset
    except (RasterioError, OSError) as error:
        raise DataError(
            f"{path} cannot be read as GeoTIFF",
            given=f"{type(error).__name__}: {error.__cause__ or error}",
            allowed="a complete GeoTIFF file",
            fix="fetch or export the file again, or take it out of the data set",
        ) from error


def _check_header(dataset: Any, path: Path, most_values: int | None) -> None:
    size = f"{dataset.count} bands of {dataset.height}x{dataset.width}"
    if most_values is not None and dataset.count * dataset.height * dataset.width > most_values:
        _refuse(
            path, "announces too many values", size, f"at most {most_values}", "cut the raster into tiles (gdal_retile)"
        )
    if len(set(dataset.dtypes)) > 1 or np.dtype(dataset.dtypes[0]).kind not in _REAL_KINDS:
        given = f"data types {', '.join(dataset.dtypes)}"
        _refuse(
            path, "has bands that cannot be used", given, "real numbers of one type", "convert it with gdal_translate"
        )


def _read(dataset: Any) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    """Bands without transparency (C, H, W) and where all of them hold data (H, W)."""
    stored = dataset.read()
    is_alpha = np.array([kind == ColorInterp.alpha for kind in dataset.colorinterp])
    is_alpha &= [is_transparency(band) for band in stored]
    is_alpha &= not is_alpha.all()  # a lone band is data
    # masks that GDAL derives from a band called alpha are not used: that band may be near infrared
    masked = [
        i for i, flags in zip(dataset.indexes, dataset.mask_flag_enums, strict=True) if MaskFlags.alpha not in flags
    ]
    valid = (dataset.read_masks(masked) > 0).all(axis=0) & (stored[is_alpha] > 0).all(axis=0)
    stored = stored[~is_alpha]
    return stored, valid & np.isfinite(stored).all(axis=0)


def is_transparency(band: NDArray[Any]) -> bool:
    """Whether a band tagged alpha holds only 0 and full scale."""
    return band.dtype.kind == "u" and bool(np.isin(band, (0, np.iinfo(band.dtype).max)).all())


def geometry_of(dataset: Any, path: Path, require_crs: bool) -> Geometry:
    """Describe an open raster.

    Raises:
        DataError: no CRS or no transform where they are required.
    """
    a, b, c, d, e, f = tuple(dataset.transform)[:6]
    height, width = float(np.hypot(b, e)), float(np.hypot(a, d))
    if require_crs and (dataset.crs is None or dataset.transform.is_identity or a * e == b * d):
        _refuse(
            path,
            "has no place on earth",
            f"CRS {_plain(dataset.crs)}, transform {_plain(dataset.transform)}",
            "a CRS and a transform",
            "set them with gdal_edit -a_srs ... -a_ullr ..., or set data.require_crs=false",
        )
    crs = None if dataset.crs is None else dataset.crs.to_wkt()
    return Geometry(shape=dataset.shape, spacing=(1.0, height, width), affine=((a, b, c), (d, e, f)), crs=crs)


def native_dtype(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """What values of a type are read as."""
    return dtype if dtype.name in _NATIVE else np.dtype("int16" if dtype.name == "int8" else "float32")


def _to_classes(stored: NDArray[Any], valid: NDArray[np.bool_], values: Sequence[int], path: Path) -> NDArray[np.uint8]:
    classes = np.full(stored.shape, IGNORE_INDEX, dtype=np.uint8)
    found, counts = np.unique(stored[valid], return_counts=True)
    odd = ~np.isin(found, list(values))
    if odd.any():
        given = shorten(f"{v:g} ({n} pixels)" for v, n in zip(found[odd], counts[odd], strict=True))
        allowed = f"{values[0]} to {values[-1]}" if isinstance(values, range) else str(list(values))
        _refuse(path, "holds mask values that no class has", given, allowed, "declare the values, or correct the mask")
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
        _refuse(
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


def _plain(value: Any) -> str:
    """One line for messages: an affine as its six numbers, a CRS by its short name."""
    return "none" if value is None else " ".join(str(value).split())


def _refuse(path: Path, what: str, given: str, allowed: str, fix: str) -> NoReturn:
    raise DataError(f"{path} {what}", given=given, allowed=allowed, fix=fix)
