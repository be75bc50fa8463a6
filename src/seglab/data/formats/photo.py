"""Photos: decoded completely, turned upright, brought to RGB by written rules.

The EXIF orientation is applied. Alpha is dropped, the colour under it is kept. 16-bit photos come as float32 in 0..255
(value / 257): nothing is lost or clipped, and a dark 12-bit photo stays dark.
"""

import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from seglab.data.formats import photo_16bit
from seglab.data.integrity import check_file
from seglab.errors import DataError

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff")
MAX_PIXELS = 200_000_000
"""A file that announces more is refused before it is decoded."""

_FORMATS = ("PNG", "JPEG", "BMP", "TIFF")
DEEP_MODES = ("I;16", "I;16B", "I;16L")
_MODES = ("1", "L", "LA", "P", "PA", "RGB", "RGBX", "RGBA", *DEEP_MODES)
_BROKEN = (
    OSError,
    EOFError,
    SyntaxError,
    TypeError,
    ValueError,
    OverflowError,
    struct.error,
    zlib.error,
)


def read_photo(path: Path) -> NDArray[Any]:
    """Read a photo as upright RGB.

    Args:
        path: 1-bit, grey, palette or RGB, with or without alpha, 8 or 16 bits.

    Returns:
        (3, 1, H, W); uint8, or float32 from 0 to 255 when the file has 16 bits.

    Raises:
        DataError: broken or cut file, CMYK and other colour models, several pictures in one file, too many pixels.
    """
    picture = decode(path)
    if picture.mode in DEEP_MODES:
        pixels: NDArray[Any] = photo_16bit.from_grey(np.asarray(picture))
    elif picture.info["deep"]:
        pixels = photo_16bit.read_color(path, picture.info["turn"], rgb_of(picture))
    else:
        pixels = rgb_of(picture)
    return np.ascontiguousarray(pixels.transpose(2, 0, 1)[:, None])  # (H, W, 3) -> (3, 1, H, W)


def decode(path: Path) -> Image.Image:
    """The whole upright picture; its `info` says whether it is "lossless" and "deep" (16 bits), and its "turn"."""
    check_file(path, SUFFIXES)
    try:
        with _opened(path) as picture:
            _check_header(picture, path)
            picture.verify()  # compares the checksums of a PNG, which decoding does not
        with _opened(path) as picture:
            facts = {"deep": photo_16bit.is_deep(picture), "turn": photo_16bit.orientation(picture)}
            picture.load()
            upright = ImageOps.exif_transpose(picture)
            upright.info.update(facts, lossless=_is_lossless(picture))
            return upright
    except _BROKEN as error:
        raise DataError(
            f"{path} cannot be decoded",
            given=f"{type(error).__name__}: {error}",
            allowed="a complete PNG, JPEG, BMP or TIFF file",
            fix="fetch or export the file again, or take it out of the data set",
        ) from error


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """Open with our own limit instead of Pillow's, which warns at 89 and stops at 179 megapixels."""
    pillow_limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
    try:
        # a stream, not a name: Pillow 13.0 maps a named TIFF into memory with its sides exchanged when it is rotated
        with path.open("rb") as stream, Image.open(stream, formats=_FORMATS) as picture:
            yield picture
    finally:
        Image.MAX_IMAGE_PIXELS = pillow_limit


def _check_header(picture: Any, path: Path) -> None:
    n_pictures = 1 if picture.format == "MPO" else getattr(picture, "n_frames", 1)  # MPO: a phone's photo and previews
    if picture.width * picture.height > MAX_PIXELS:
        what, given = "announces too many pixels", f"{picture.width}x{picture.height}"
    elif n_pictures > 1:
        what, given = "holds more than one picture", f"{n_pictures} pictures"
    elif picture.mode not in _MODES:
        what, given = "has a colour model that is not read", f"mode {picture.mode}"
    else:
        return
    raise DataError(
        f"{path} {what}",
        given=given,
        allowed=f"one picture of at most {MAX_PIXELS} pixels; 1-bit, grey, palette or RGB, 8 or 16 bits",
        fix="convert the file to an RGB or grey PNG, or take it out of the data set",
    )


def _is_lossless(picture: Any) -> bool:
    return picture.format not in ("JPEG", "MPO") and picture.info.get("compression") != "jpeg"


def rgb_of(picture: Image.Image) -> NDArray[np.uint8]:
    """Colours of a decoded picture, (H, W, 3)."""
    return np.asarray(picture.convert("RGB"))
