"""16-bit photos at full depth: Pillow keeps only the high byte of 16-bit colours, so OpenCV reads those again.

Values come as float32 with 65535 brought to 255.0, so that no bit is lost and white is white at both depths.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from seglab.errors import DataError

FULL_SCALE = 257.0
"""Divides 0..65535 down to 0..255."""

_ORIENTATION_TAG = 274
_UPRIGHT: dict[int, Callable[[NDArray[Any]], NDArray[Any]]] = {
    1: lambda stored: stored,
    2: lambda stored: stored[:, ::-1],
    3: lambda stored: stored[::-1, ::-1],
    4: lambda stored: stored[::-1],
    5: lambda stored: stored.swapaxes(0, 1),
    6: lambda stored: np.rot90(stored, -1),
    7: lambda stored: stored[::-1, ::-1].swapaxes(0, 1),
    8: np.rot90,
}


def is_deep(picture: Any) -> bool:
    """Whether an opened, not yet decoded Pillow picture stores 16 bits for each sample."""
    return ";16" in str(picture.tile)


def orientation(picture: Any) -> int:
    """The EXIF orientation of an opened picture, 1 (upright) to 8."""
    found = picture.getexif().get(_ORIENTATION_TAG, 1)
    return found if found in _UPRIGHT else 1


def from_grey(grey: NDArray[np.uint16]) -> NDArray[np.float32]:
    """RGB of 16-bit grey values: (H, W) -> (H, W, 3)."""
    values: NDArray[np.float32] = np.asarray(grey, np.float32) / np.float32(FULL_SCALE)
    return np.repeat(values[:, :, None], 3, axis=2)


def read_color(path: Path, turn: int, high_bytes: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Read 16-bit colours that Pillow has decoded to their high bytes.

    Args:
        path: PNG or TIFF.
        turn: EXIF orientation.
        high_bytes: what Pillow read, upright, (H, W, 3); the two decoders must agree.

    Returns:
        (H, W, 3), upright RGB.

    Raises:
        DataError: OpenCV cannot read the file, or reads something else.
    """
    stored = cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_UNCHANGED)
    if stored is not None and stored.ndim == 3 and stored.dtype == np.uint16:
        rgb = _UPRIGHT[turn](stored)[..., 2::-1]  # BGR or BGRA
        if np.array_equal(rgb >> 8, high_bytes):
            return rgb.astype(np.float32) / np.float32(FULL_SCALE)
    raise DataError(
        f"{path} holds 16-bit colours that are read differently by two decoders",
        given="nothing" if stored is None else f"{stored.dtype} {'x'.join(map(str, stored.shape))}",
        allowed="16-bit RGB or RGBA as PNG or TIFF",
        fix="save it again as a 16-bit RGB PNG, or as 8 bits",
    )
