"""NIfTI volumes: read in the reading order of `grid`, labels written back onto the file's own grid."""

import gzip
import math
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import nibabel as nib
import numpy as np
from nibabel.filebasedimages import ImageFileError
from nibabel.spatialimages import HeaderDataError, HeaderTypeError
from nibabel.wrapstruct import WrapStructError
from numpy.typing import NDArray

from seglab.data.formats import grid, nifti_parts
from seglab.data.formats.nifti_parts import VoxelFile
from seglab.data.integrity import check_file
from seglab.errors import DataError
from seglab.files import atomic_path
from seglab.spec import Geometry

SUFFIXES = (".nii", ".nii.gz")
AXES_TOLERANCE = 2e-3
"""How far qform and sform axes may differ, in voxels per voxel: float32 quaternions are exact to 7e-4."""

ORIGIN_TOLERANCE = 0.1
"""How far qform and sform origins may differ, in voxels."""

_MAX_GZIP_RATIO = 1100
_SPACE_UNITS = 0b111
_MILLIMETRES = (0, 2)
_OTHER_UNITS = {1: "meter", 3: "micron"}
_CHUNK = 1 << 20
_SLAB = 1 << 22
_BROKEN = (
    OSError,
    EOFError,
    ValueError,
    OverflowError,
    struct.error,
    zlib.error,
    ImageFileError,
    HeaderDataError,
    HeaderTypeError,
    WrapStructError,
)


def read_volume(
    path: Path, *, channels: bool = False, scratch_dir: Path | None = None
) -> tuple[NDArray[Any], Geometry]:
    """Read a 3-D volume.

    Args:
        path: .nii or .nii.gz; trailing axes of length 1 are dropped.
        channels: take a fourth axis as channels, such as modalities.
        scratch_dir: the voxels lie in a file there, see `scratch`; None for memory.

    Returns:
        image: (C, D, H, W) in reading order, C = 1 without channels, scl_slope and scl_inter applied; int16 when every
            value is an integer in its range, else float32.
        geometry: shape and affine of the file, spacing of the array.

    Raises:
        DataError: broken or cut file, not 3-D, NaN or infinite voxels, impossible or contradictory geometry.
    """
    return _load(path, channels=channels, scratch_dir=scratch_dir)


def read_mask(path: Path) -> NDArray[np.uint8]:
    """Read a label volume.

    Returns:
        (D, H, W) uint8 in the reading order of `read_volume`.

    Raises:
        DataError: as `read_volume`, and values that are no integers from 0 to 255.
    """
    image, _ = _load(path)
    return grid.as_labels(image[0], path)


def read_geometry(path: Path, *, channels: bool = False) -> Geometry:
    """Read only the header; of a fourth axis nothing, where it is allowed as channels.

    Raises:
        DataError: no NIfTI, not 3-D, or impossible or contradictory geometry.
    """
    with _opened(path) as image:
        return _geometry(image.header, path, channels=channels)


def write_labels(labels: NDArray[np.uint8], like: Path, target: Path) -> None:
    """Write labels onto the grid of the file they were predicted from, in one piece; see `labels_created`.

    Args:
        labels: (D, H, W) in reading order.
        like: the image that was read.
        target: .nii or .nii.gz.

    Raises:
        DataError: labels of another size, or a target with another ending.
        OSError: when the target cannot be written; no file is left under its name.
    """
    grid.to_file_order(labels, read_geometry(like, channels=True), like)  # refuses labels of another size
    with labels_created(like, target) as voxels:
        voxels.write((0, labels.shape[0]), (0, labels.shape[1]), labels[None])


def write_new(labels: NDArray[np.uint8], geometry: Geometry, target: Path) -> None:
    """Write labels onto the grid of a volume of another format, in one piece.

    Args:
        labels: (D, H, W) in reading order.
        geometry: of the volume that was read.
        target: .nii or .nii.gz.

    Raises:
        DataError: labels of another size, or a target with another ending.
        OSError: when the target cannot be written; no file is left under its name.
    """
    grid.to_file_order(labels, geometry, target)  # refuses labels of another size
    with new_created(geometry, target) as voxels:
        voxels.write((0, labels.shape[0]), (0, labels.shape[1]), labels[None])


@contextmanager
def labels_created(like: Path, target: Path) -> Iterator[VoxelFile]:
    """Write labels part by part onto the grid of the file they are predicted from.

    Axis order, shape, affine (qform and sform with their codes), zooms and units are those of `like`; the values are
    stored as uint8 without scaling. Texts and extensions of the header are left out: they may name the patient.

    Args:
        like: the image that was read.
        target: .nii or .nii.gz; under its name there is a whole file or none.

    Raises:
        DataError: a target with another ending.
        OSError: when the target cannot be written.
    """
    with _opened(like) as image:
        header = image.header.copy()
        geometry = _geometry(header, like, channels=True)
    shape = header.get_data_shape()
    header.set_data_shape((*shape[:3], *(1 for _ in shape[3:])) if math.prod(shape[3:]) == 1 else shape[:3])
    with _written(target, _label_header(header), geometry) as voxels:
        yield voxels


@contextmanager
def new_created(geometry: Geometry, target: Path) -> Iterator[VoxelFile]:
    """Write labels part by part onto the grid of a volume of another format; see `labels_created`."""
    with _written(target, nifti_parts.new_header(geometry, np.uint8), geometry) as voxels:
        yield voxels


@contextmanager
def _written(target: Path, header: Any, geometry: Geometry) -> Iterator[VoxelFile]:
    if not target.name.endswith(SUFFIXES):
        raise DataError(
            f"labels cannot be written to {target}",
            given=target.name,
            allowed=f"a target that ends in {' or '.join(SUFFIXES)}",
            fix="choose a NIfTI name",
        )
    with atomic_path(target) as temporary, nifti_parts.created(temporary, header, geometry) as voxels:
        yield voxels


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """Give the nibabel image of an open file; a gzip stream is read to its end, which checks its CRC, by `_load`."""
    check_file(path, SUFFIXES)
    try:
        with path.open("rb") as raw:
            stream: Any = gzip.GzipFile(fileobj=raw) if path.name.lower().endswith(".gz") else raw
            yield _image_class(stream).from_stream(stream)
    except _BROKEN as error:
        raise DataError(
            f"{path} cannot be read as NIfTI",
            given=f"{type(error).__name__}: {error}",
            allowed="a complete single-file NIfTI-1 or NIfTI-2 volume",
            fix="fetch or export the file again, or take it out of the data set",
        ) from error


def _image_class(stream: Any) -> type[Any]:
    start = stream.peek(4)[:4]
    is_nifti2 = start in (struct.pack("<i", 540), struct.pack(">i", 540))
    return nib.Nifti2Image if is_nifti2 else nib.Nifti1Image


def _load(path: Path, *, channels: bool = False, scratch_dir: Path | None = None) -> tuple[NDArray[Any], Geometry]:
    """Voxels (C, D, H, W) in reading order with scaling applied, all finite, and the geometry."""
    with _opened(path) as image:
        geometry = _geometry(image.header, path, channels=channels)
        _check_length(image, path)
        further = tuple(image.header.get_data_shape()[3:])
        voxels = grid.Voxels(math.prod(further), geometry, path, scratch_dir)
        for channel, index in enumerate(np.ndindex(further)):
            for first, slab in _slabs(image.dataobj, index):
                voxels.add(channel, first, slab)
        _read_on(image.file_map["image"].fileobj, path)
    return voxels.finished(), geometry


def _slabs(data: Any, index: tuple[int, ...]) -> Iterator[tuple[int, NDArray[Any]]]:
    """Planes (X, Y, n) of one channel with the place of the first; nibabel scales in float64, so few at a time."""
    is_scaled = (data.slope, data.inter) != (1.0, 0.0)
    n_planes = data.shape[2]
    step = max(1, _SLAB // (data.shape[0] * data.shape[1]))
    for first in range(0, n_planes, step):
        slab = np.asarray(data[(slice(None), slice(None), slice(first, min(first + step, n_planes)), *index)])
        yield first, slab.astype(np.float32) if is_scaled else slab


def _check_length(image: Any, path: Path) -> None:
    claimed = int(np.prod(image.header.get_data_shape(), dtype=object)) * image.header.get_data_dtype().itemsize
    size = path.stat().st_size
    if claimed > size * (_MAX_GZIP_RATIO if path.name.lower().endswith(".gz") else 1):
        raise EOFError(f"the header claims {claimed} bytes of voxels, the file has {size}")


def _read_on(stream: BinaryIO, path: Path) -> None:
    """Read to the end, at most as far again as the voxels went, so that the checksum behind them is compared."""
    left = stream.tell() + _CHUNK
    while chunk := stream.read(_CHUNK):
        left -= len(chunk)
        if left < 0:
            raise EOFError(f"{path.name} goes on far behind the last voxel that its header announces")


def _geometry(header: Any, path: Path, *, channels: bool = False) -> Geometry:
    shape = tuple(int(n) for n in header.get_data_shape())
    dtype, unit = header.get_data_dtype(), int(header["xyzt_units"]) & _SPACE_UNITS
    if any(n > 1 for n in shape[4 if channels else 3 :]):
        allowed = "3 axes, and one for channels" if channels else "3 axes"
        grid.refuse(path, "is no volume that can be used", f"shape {shape}", allowed)
    if dtype.kind not in "iuf":
        grid.refuse(path, "has no plain numbers as voxels", f"data type {dtype}", "integers or floats, one per voxel")
    if unit not in _MILLIMETRES:
        given = f"unit {_OTHER_UNITS.get(unit, f'of unknown code {unit}')}"
        grid.refuse(path, "is not measured in millimetres", given, "mm, or no unit at all for mm")
    geometry = grid.geometry_of(shape[:3], np.asarray(header.get_best_affine(), dtype=np.float64), path)
    _check_forms(header, path)
    return geometry


def _check_forms(header: Any, path: Path) -> None:
    """Readers differ in which of the two affines they believe, so they must agree where both are set."""
    if not (header["qform_code"] > 0 and header["sform_code"] > 0):
        return
    qform, sform = header.get_qform(), header.get_sform()
    lengths = np.linalg.norm(sform[:3, :3], axis=0)
    axes = np.linalg.norm(qform[:3, :3] - sform[:3, :3], axis=0) / lengths
    origin = np.linalg.norm(qform[:3, 3] - sform[:3, 3]) / lengths.min()
    if not (axes.max() <= AXES_TOLERANCE and origin <= ORIGIN_TOLERANCE):
        given = f"qform {qform.round(4).tolist()}, sform {sform.round(4).tolist()}"
        grid.refuse(path, "has a qform and an sform that disagree", given, "one affine in both, or one code set to 0")


def _label_header(header: Any) -> Any:
    header.set_data_dtype(np.uint8)
    header.set_slope_inter(1, 0)
    header["cal_min"] = header["cal_max"] = 0  # a CT window would hide the labels
    for text in ("descrip", "aux_file", "intent_name"):
        header[text] = b""
    header.extensions.clear()
    return header
