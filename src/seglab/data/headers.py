"""What the header of a file says beside its pixels: kept with the prepared case, and noticed where a rule applies."""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import rasterio
from numpy.typing import NDArray
from PIL import Image
from rasterio.errors import NotGeoreferencedWarning

from seglab.data.findings import notice
from seglab.data.formats import array_bands, photo, raster, volumes
from seglab.spec import IGNORE_INDEX, Case, Kind

MIN_ZEROS = 0.01
"""Share of pixels that are 0 in all bands from which a missing nodata value is suspected."""

_ORIENTATION_TAG = 274
_LOSSY = {"JPEG", "MPO"}
_COLORS = ("RGB", "RGBA", "RGBX", "P", "PA")
_orientations: Any = nib.orientations  # untyped
_READING = _orientations.axcodes2ornt(("L", "P", "S"))


@dataclass(frozen=True)
class Header:
    """Facts of one image file; what its kind does not have is empty.

    Args:
        stored: how numbers or colours are stored, such as "uint16" or "RGB".
        shape: spatial size in the file's own axis order.
        affine: as in `Geometry`.
        crs: short name of the coordinate reference system, such as "EPSG:32633".
        orientation: where the axes of a volume lead, such as "LPS".
        nodata: number of pixels without data.
    """

    stored: str = ""
    shape: tuple[int, ...] = ()
    affine: tuple[tuple[float, ...], ...] | None = None
    crs: str = ""
    orientation: str = ""
    nodata: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain data."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Header":
        """Rebuild from `to_dict`, also after a trip through JSON."""
        affine = values["affine"]
        places = None if affine is None else tuple(tuple(row) for row in affine)
        return cls(**{**values, "shape": tuple(values["shape"]), "affine": places})


def read_header(file: Path, kind: Kind) -> Header:
    """Read the header of an image that its reader takes.

    Args:
        file: the image, or a folder with a DICOM series.
        kind: of the data set.
    """
    if is_raster(file, kind):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", NotGeoreferencedWarning)
            with rasterio.open(file) as dataset:
                a, b, c, d, e, f = tuple(dataset.transform)[:6]
                crs = "" if dataset.crs is None else dataset.crs.to_string()
                nodata = None if dataset.nodata is None else float(dataset.nodata)
                return Header(dataset.dtypes[0], dataset.shape, ((a, b, c), (d, e, f)), crs, nodata=nodata)
    if is_picture(file, kind):
        with Image.open(file) as picture:
            return Header(picture.mode, picture.size[::-1])
    if kind == "raster" and array_bands.is_array(file):
        return Header(*array_bands.stored_as(file))
    if volumes.is_volume(file):
        geometry = volumes.read_geometry(file, channels=True)
        axes = "" if geometry.affine is None else "".join(_orientations.aff2axcodes(np.asarray(geometry.affine)))
        return Header(shape=geometry.shape, affine=geometry.affine, orientation=axes)
    return Header()


def notice_headers(case: Case, header: Header, kind: Kind, *, mask: NDArray[np.uint8]) -> None:
    """Notice what the readers repair by rule, and headers that contradict the use of a file.

    Args:
        case: names the files.
        header: of its image.
        kind: of the data set.
        mask: (D, H, W) as read, to tell which colours of its file count nowhere.
    """
    if is_picture(case.image_file, kind):
        _notice_photo(case.image_file)
    for file in case.mask_files:
        if is_picture(file, kind):
            _notice_mask(file, mask)
    if is_raster(case.image_file, kind) and _has_color_table(case.image_file):
        value, fix = "its numbers stand for colours", "expand it to bands: gdal_translate -expand rgb"
        notice("warning", case.image_file, "is an image with a colour table", value=value, fix=fix)
    if header.orientation and volumes.is_volume(case.mask_file):
        other = read_header(case.mask_file, kind).orientation
        if other != header.orientation:
            value, fix = f"mask {other}, image {header.orientation}", "nothing: both are brought to one axis order"
            notice("note", case.mask_file, "stores its axes in another order than its image", value=value, fix=fix)


def notice_zeros(image: NDArray[Any], valid: NDArray[np.bool_], header: Header, file: Path) -> None:
    """Warn of a raster with blank areas that no nodata value explains; a volume is 0 where there is nothing to see.

    Args:
        image: (C, D, H, W).
        valid: (D, H, W).
        header: of the file.
        file: for the message.
    """
    if header.nodata is not None or header.affine is None or header.orientation:
        return
    share = float((valid & ~image.any(axis=0)).mean())
    if share >= MIN_ZEROS:
        notice(
            "warning",
            file,
            "is 0 in all bands where nothing marks it as nodata",
            value=f"{share:.1%} of the pixels",
            fix=f"if they hold no data: rio edit-info --nodata 0 {file.name}",
        )


def height_mm(header: Header, number: int) -> float | None:
    """Where a slice of a volume lies along the body (RAS z), slices counted in reading order; None without affine."""
    if header.affine is None or len(header.shape) < 3:
        return None
    affine = np.asarray(header.affine)
    turn = _orientations.ornt_transform(_orientations.io_orientation(affine), _READING)
    read = affine @ _orientations.inv_ornt_aff(turn, header.shape[:3])
    return float(read[2, 3] + number * read[2, 2])


def is_raster(file: Path, kind: Kind) -> bool:
    """Whether a file is read as GeoTIFF."""
    return kind == "raster" and file.name.lower().endswith(raster.SUFFIXES)


def is_picture(file: Path, kind: Kind) -> bool:
    """Whether a file is read as a photo."""
    return kind != "volume" and not is_raster(file, kind) and file.name.lower().endswith(photo.SUFFIXES)


def _notice_photo(file: Path) -> None:
    with Image.open(file) as picture:
        mode, turn, kind = picture.mode, picture.getexif().get(_ORIENTATION_TAG, 1), picture.format
    _notice_name(file, kind)
    if turn != 1:
        _repaired(file, "is turned upright", f"EXIF orientation {turn}")
    if mode in ("RGBA", "LA", "PA"):
        _repaired(file, "loses its alpha channel", mode)
    elif mode in ("P", "1"):
        _repaired(file, "becomes RGB", f"mode {mode}")


def _notice_mask(file: Path, mask: NDArray[np.uint8]) -> None:
    with Image.open(file) as picture:
        mode, kind = picture.mode, picture.format
    _notice_name(file, kind)
    if kind in _LOSSY:
        _repaired(file, "is a JPEG mask, whose edges are blurred", "above 127 is foreground")
    if mode in ("P", "PA"):
        _repaired(file, "is a palette mask, whose colours or indices are classes as configured", f"mode {mode}")
    ignored = mask[0] == IGNORE_INDEX
    if mode in _COLORS and ignored.any():
        colors = photo.read_photo(file)[:, 0]
        if colors.shape[1:] == ignored.shape:
            for color, n_pixels in _counted(colors[:, ignored].astype(np.uint32)):
                _repaired(
                    file, f"holds the colour {color}, which counts in no loss and no metric", f"{n_pixels} pixels"
                )


def _notice_name(file: Path, kind: str | None) -> None:
    named = Image.registered_extensions()[file.suffix.lower()]
    if kind != named and not {kind, named} <= _LOSSY:
        _repaired(file, "is named like another format", f"{kind} as {file.suffix}")


def _counted(colors: NDArray[np.uint32]) -> list[tuple[str, int]]:
    """The most frequent of some colours (3, n)."""
    found, counts = np.unique(colors[0] << 16 | colors[1] << 8 | colors[2], return_counts=True)
    ranked: Sequence[int] = np.argsort(-counts)[:5].tolist()
    return [(f"#{found[place]:06X}", int(counts[place])) for place in ranked]


def _repaired(file: Path, what: str, value: str) -> None:
    notice("note", file, what, value=value, fix="nothing, if that is meant; docs/inputs.md has the rules")


def _has_color_table(file: Path) -> bool:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        with rasterio.open(file) as dataset:
            return any(kind == rasterio.enums.ColorInterp.palette for kind in dataset.colorinterp)
