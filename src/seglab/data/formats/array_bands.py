"""NumPy files as rasters without a place on earth: .npz with image, mask or both, or a bare .npy.

Bands are the first or the last of three axes, whichever is shorter.
"""

from pathlib import Path
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from seglab.data.formats import arrays
from seglab.data.formats.raster import native_dtype
from seglab.errors import DataError
from seglab.files import atomic_path
from seglab.spec import IGNORE_INDEX

SUFFIXES = arrays.SUFFIXES


def is_array(path: Path) -> bool:
    """Whether a file is named like NumPy's."""
    return path.name.lower().endswith(SUFFIXES)


def read_bands(path: Path) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    """Read the image of a file.

    Args:
        path: .npz with "image" (or "img"), or a .npy with the image alone; (H, W), (H, W, C) or (C, H, W).

    Returns:
        image: (C, 1, H, W); uint8, uint16, int16 or float32 as stored, other numbers as float32; 0 where invalid.
        valid: (1, H, W); False where any band is NaN or infinite.

    Raises:
        DataError: broken file, no image in it, or axes of which none is shortest.
    """
    stored = _bands(path, arrays.IMAGE)
    valid = np.isfinite(stored).all(axis=0)
    return np.where(valid, stored, 0).astype(native_dtype(stored.dtype))[:, None], valid[None]


def read_values(path: Path) -> NDArray[Any]:
    """Read the numbers that a mask stores.

    Args:
        path: .npz with "mask" (or "msk", "label"), or a .npy with the mask alone; (H, W), or one band of it.

    Returns:
        (1, H, W) whole numbers.

    Raises:
        DataError: broken file, no mask in it, several bands, fractions.
    """
    stored = _bands(path, arrays.MASK)
    if len(stored) != 1:
        _refuse(path, "is no mask", f"{len(stored)} bands", "one band", "store the class values in an array (H, W)")
    if stored.dtype.kind == "f":
        if not (np.isfinite(stored) & (stored == np.rint(stored))).all():
            _refuse(path, "is no mask", "fractions", "whole numbers", "store the class values as integers")
        return stored.astype(np.int64)
    return stored


def stored_as(path: Path) -> tuple[str, tuple[int, int]]:
    """Type of the numbers of an image and its (H, W); raises as `read_bands`."""
    stored = _bands(path, arrays.IMAGE)
    return stored.dtype.name, (stored.shape[1], stored.shape[2])


def write_labels(labels: NDArray[np.uint8], target: Path, *, mask_values: tuple[int, ...]) -> None:
    """Write a .npz with "mask" (H, W), in one piece.

    Args:
        labels: (1, H, W) class indices; 255 stays.
        target: ends in .npz.
        mask_values: number written for each class.

    Raises:
        OSError: when the target cannot be written; no file is left under its name.
    """
    table = np.full(256, IGNORE_INDEX, np.uint8)
    table[: len(mask_values)] = mask_values
    with atomic_path(target) as temporary, temporary.open("wb") as stream:
        np.savez_compressed(stream, mask=table[labels[0]])


def _bands(path: Path, name: str) -> NDArray[Any]:
    """An array as (C, H, W)."""
    parts = arrays.load(path)
    if name not in parts:
        given = f"arrays {', '.join(parts) or 'of other names'}"
        _refuse(path, f"holds no {name}", given, f"an array {name}", f"np.savez_compressed(file, {name}=...)")
    array = parts[name]
    if array.ndim == 2:
        array = array[None]
    if array.ndim != 3 or array.size == 0 or array.shape[0] == array.shape[2]:
        allowed = "(H, W), (H, W, bands) or (bands, H, W) with fewer bands than pixels"
        _refuse(path, f"has an {name} that cannot be used", f"shape {parts[name].shape}", allowed, "store it so")
    bands = array if array.shape[0] < array.shape[2] else np.moveaxis(array, 2, 0)  # -> (C, H, W)
    plain = bands.astype(np.uint8) if bands.dtype == bool else bands
    return np.ascontiguousarray(plain, plain.dtype.newbyteorder("="))


def _refuse(path: Path, what: str, given: str, allowed: str, fix: str) -> NoReturn:
    raise DataError(f"{path} {what}", given=given, allowed=allowed, fix=fix)
