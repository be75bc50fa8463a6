"""NumPy files as volumes: .npz with image, mask and where they lie, or a bare .npy; nothing in them is executed."""

import math
import struct
import tokenize
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from seglab.data.formats import grid
from seglab.data.integrity import check_file
from seglab.errors import DataError
from seglab.files import atomic_path
from seglab.spec import Geometry

SUFFIXES = (".npz", ".npy")
IMAGE, MASK, AFFINE, SPACING = "image", "mask", "affine", "spacing"
NAMES = {"image": IMAGE, "img": IMAGE, "mask": MASK, "msk": MASK, "label": MASK, "affine": AFFINE, "spacing": SPACING}
"""What arrays of a .npz are called; of two names for one thing the first counts."""

_BROKEN = (
    OSError,
    EOFError,
    ValueError,
    SyntaxError,
    KeyError,
    TypeError,
    OverflowError,
    MemoryError,
    RuntimeError,
    NotImplementedError,
    struct.error,
    zlib.error,
    zipfile.BadZipFile,
    tokenize.TokenError,
)


def read_volume(path: Path) -> tuple[NDArray[Any], Geometry]:
    """Read a 3-D volume.

    Args:
        path: .npz with "image" (X, Y, Z) and either "affine" (4x4, voxel to RAS mm), "spacing" (mm along X, Y, Z; axes
            to right, anterior, superior), or neither (1 mm); or a .npy with the image alone.

    Returns:
        image: (1, D, H, W) in reading order; int16 when every value is an integer in its range, else float32.
        geometry: shape and affine of the array, spacing of what is returned.

    Raises:
        DataError: broken or cut file, objects, not 3-D, NaN or infinite voxels, impossible geometry.
    """
    parts = load(path)
    stored, geometry = _part(parts, IMAGE, path), _geometry(parts, path)
    grid.check_finite(stored, path)
    return grid.to_reading_order(grid.native(stored), geometry)[None], geometry


def read_mask(path: Path) -> NDArray[np.uint8]:
    """Read the labels "mask" of a .npz, or a .npy: (D, H, W) in the reading order of `read_volume`.

    Raises:
        DataError: as `read_volume`, and values that are no integers from 0 to 255.
    """
    parts = load(path)
    stored = _part(parts, MASK, path)
    grid.check_finite(stored, path)
    return grid.to_reading_order(grid.as_labels(stored, path), _geometry(parts, path))


def read_geometry(path: Path) -> Geometry:
    """Where the arrays of a file lie.

    Raises:
        DataError: as `read_volume`.
    """
    return _geometry(load(path), path)


def write_labels(labels: NDArray[np.uint8], geometry: Geometry, target: Path) -> None:
    """Write a .npz with "mask" and "affine", in one piece.

    Args:
        labels: (D, H, W) in reading order.
        geometry: of the volume that was read.
        target: ends in .npz.

    Raises:
        DataError: labels of another size, or a target with another ending.
        OSError: when the target cannot be written; no file is left under its name.
    """
    stored = grid.to_file_order(labels, geometry, target)
    if target.suffix != ".npz":
        grid.refuse(target, "is no name for labels", target.suffix or "no ending", "a target in .npz")
    with atomic_path(target) as temporary, temporary.open("wb") as stream:
        np.savez_compressed(stream, mask=stored, affine=np.asarray(geometry.affine))


def load(path: Path) -> dict[str, NDArray[Any]]:
    """The arrays of a file by what they are, one of `NAMES`; that of a .npy as image and as mask.

    Raises:
        DataError: broken or cut file, or objects in it.
    """
    check_file(path, SUFFIXES)
    try:
        if path.suffix.lower() == ".npy":
            with path.open("rb") as stream:
                alone = _array(stream, path.stat().st_size)
                return {IMAGE: alone, MASK: alone}  # whichever it is
        with zipfile.ZipFile(path) as archive:
            members = {name.removesuffix(".npy"): info for name, info in archive.NameToInfo.items()}
            wanted = {what: members[name] for name, what in reversed(NAMES.items()) if name in members}
            return {what: _member(archive, info) for what, info in wanted.items()}
    except _BROKEN as error:
        raise DataError(
            f"{path} cannot be read as NumPy arrays",
            given=f"{type(error).__name__}: {error}",
            allowed=f"a complete .npy, or a .npz with {IMAGE} or {MASK} and optionally {AFFINE} or {SPACING}; numbers",
            fix="write it again with numpy.savez_compressed(file, image=..., affine=...)",
        ) from error


def _member(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> NDArray[Any]:
    with archive.open(info) as stream:
        array = _array(stream, info.file_size)
        if stream.read(1):  # to the end, which compares the checksum
            raise ValueError(f"{info.filename} goes on behind its array")
        return array


def _array(stream: Any, n_bytes: int) -> NDArray[Any]:
    """An array whose header announces no more than there is; never objects."""
    version = np.lib.format.read_magic(stream)
    read_header = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }[version]
    shape, is_fortran, dtype = read_header(stream)
    n_values = math.prod(shape)
    if dtype.kind not in "biuf" or n_values > grid.MAX_VOXELS or n_values * dtype.itemsize > n_bytes:
        raise ValueError(f"the header announces {shape} values of type {dtype}, the file holds {n_bytes} bytes")
    content = stream.read(n_values * dtype.itemsize)
    if len(content) < n_values * dtype.itemsize:
        raise EOFError(f"{len(content)} bytes of values instead of {n_values * dtype.itemsize}")
    values = np.frombuffer(content, dtype)
    return values.reshape(shape[::-1]).T if is_fortran else values.reshape(shape)


def _part(parts: dict[str, NDArray[Any]], name: str, path: Path) -> NDArray[Any]:
    if name not in parts:
        grid.refuse(path, f"holds no {name}", f"arrays {', '.join(parts) or 'of other names'}", f"an array {name}")
    array = parts[name]
    if array.ndim != 3 or array.size == 0:
        grid.refuse(path, "is no volume that can be used", f"shape {array.shape}", "3 axes (X, Y, Z)")
    return array.astype(np.uint8) if array.dtype == bool else array.astype(array.dtype.newbyteorder("="))


def _geometry(parts: dict[str, NDArray[Any]], path: Path) -> Geometry:
    shapes = {parts[name].shape for name in (IMAGE, MASK) if name in parts and parts[name].ndim == 3}
    if len(shapes) != 1:
        grid.refuse(path, "holds no volume, or two of different sizes", f"shapes {sorted(shapes)}", "one (X, Y, Z)")
    affine = np.eye(4)
    if AFFINE in parts:
        affine = np.asarray(parts[AFFINE], dtype=np.float64)
    elif SPACING in parts and parts[SPACING].shape == (3,):
        affine[:3, :3] = np.diag(np.asarray(parts[SPACING], dtype=np.float64))
    elif SPACING in parts:
        grid.refuse(path, "has an impossible spacing", f"shape {parts[SPACING].shape}", "three lengths in mm")
    if affine.shape != (4, 4):
        grid.refuse(path, "has an impossible affine", f"shape {affine.shape}", "4x4, voxel to RAS mm")
    return grid.geometry_of(shapes.pop(), affine, path)
