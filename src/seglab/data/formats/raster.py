"""GeoTIFF rasters: bands with their grid and their nodata."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.enums import ColorInterp, MaskFlags
from rasterio.errors import NotGeoreferencedWarning, RasterioError

from seglab.data.integrity import check_file
from seglab.errors import DataError
from seglab.spec import Geometry

SUFFIXES = (".tif", ".tiff")
MAX_VALUES = 2_000_000_000
"""Bands x height x width that a header may announce: a sparse file of 7 MB can claim 120 GB."""

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
        stored, valid = read_bands(dataset)
    image = np.where(valid, stored, 0).astype(native_dtype(stored.dtype))
    return image[:, None], valid[None], geometry


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
        refuse(
            path, "announces too many values", size, f"at most {most_values}", "cut the raster into tiles (gdal_retile)"
        )
    if len(set(dataset.dtypes)) > 1 or np.dtype(dataset.dtypes[0]).kind not in _REAL_KINDS:
        given = f"data types {', '.join(dataset.dtypes)}"
        refuse(
            path, "has bands that cannot be used", given, "real numbers of one type", "convert it with gdal_translate"
        )


def read_bands(dataset: Any) -> tuple[NDArray[Any], NDArray[np.bool_]]:
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
        refuse(
            path,
            "has no place on earth",
            f"CRS {plain(dataset.crs)}, transform {plain(dataset.transform)}",
            "a CRS and a transform",
            "set them with gdal_edit -a_srs ... -a_ullr ..., or set data.require_crs=false",
        )
    crs = None if dataset.crs is None else dataset.crs.to_wkt()
    return Geometry(shape=dataset.shape, spacing=(1.0, height, width), affine=((a, b, c), (d, e, f)), crs=crs)


def native_dtype(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """What values of a type are read as."""
    return dtype if dtype.name in _NATIVE else np.dtype("int16" if dtype.name == "int8" else "float32")


def plain(value: Any) -> str:
    """One line for messages: an affine as its six numbers, a CRS by its short name."""
    return "none" if value is None else " ".join(str(value).split())


def refuse(path: Path, what: str, given: str, allowed: str, fix: str) -> NoReturn:
    """Raise the error of a raster that cannot be used."""
    raise DataError(f"{path} {what}", given=given, allowed=allowed, fix=fix)
