"""NIfTI files written part by part: memory holds a part, however long the volume.

A compressed file cannot be written out of order, and parts come in the order of reading, not in that of the file. So
voxels are put into an uncompressed file beside the target first, which is compressed at the end.
"""

import gzip
import math
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from seglab.data.formats import grid, scratch
from seglab.spec import Geometry

FULL_SCALE = 65535
"""What stands for 1 in a map: NIfTI has no 16-bit floats, every reader applies the slope of 1/65535."""

_CHUNK = 1 << 22


class VoxelFile:
    """Voxels of an uncompressed file, in the axis order of the file; only what is being written is in memory.

    Args:
        file: as long as its header says.
        header: of the file.
        geometry: of the volume.
    """

    def __init__(self, file: Path, header: Any, geometry: Geometry) -> None:
        self.file, self.geometry = file, geometry
        self._shape = (*geometry.shape, math.prod(header.get_data_shape()[3:]))
        self._how: dict[str, Any] = {"dtype": header.get_data_dtype(), "offset": int(header["vox_offset"])}

    def write(self, depth: tuple[int, int], height: tuple[int, int], values: NDArray[Any]) -> None:
        """Write a part: (N, d, h, W) in reading order."""
        # mapped for this part only: pages that are mapped count as memory
        stored = np.memmap(self.file, mode="r+", order="F", shape=self._shape, **self._how)
        for index, part in enumerate(values):
            grid.reading_view(stored[..., index], self.geometry)[slice(*depth), slice(*height)] = part


@contextmanager
def created(target: Path, header: Any, geometry: Geometry, *, level: int = 6) -> Iterator[VoxelFile]:
    """Write a NIfTI file part by part; what is not written is 0.

    Args:
        target: .nii or .nii.gz, a temporary name: after an error it is left half-written.
        header: of the file, with shape and type of the voxels.
        geometry: of the volume.
        level: of the compression.

    Raises:
        OSError: when the target cannot be written.
    """
    header["magic"], header["vox_offset"] = header.single_magic, header.single_vox_offset
    n_bytes = math.prod(header.get_data_shape()) * header.get_data_dtype().itemsize
    plain = target.with_name(f"plain-{target.name.removesuffix('.gz')}") if target.suffix == ".gz" else target
    try:
        with plain.open("wb") as stream:
            stream.write(header.binaryblock + bytes(4))  # no extensions
            scratch.claim(stream, int(header["vox_offset"]) + n_bytes)
        yield VoxelFile(plain, header, geometry)
        if plain != target:
            _compress(plain, target, level)
    finally:
        if plain != target:
            plain.unlink(missing_ok=True)


def _compress(plain: Path, target: Path, level: int) -> None:
    """Without name and time, so that equal voxels give equal files."""
    with plain.open("rb") as source, target.open("wb") as raw, gzip.GzipFile("", "wb", level, raw, mtime=0) as packed:
        shutil.copyfileobj(source, packed, _CHUNK)


def new_header(geometry: Geometry, dtype: type[np.generic], n_maps: int = 1) -> Any:
    """The header of a volume, or of several along a fourth axis, on the grid of a volume of another format."""
    shape = geometry.shape if n_maps == 1 else (*geometry.shape, n_maps)
    image: Any = nib.Nifti1Image  # untyped
    header = image(np.broadcast_to(np.zeros((), dtype), shape), np.asarray(geometry.affine)).header
    header.set_xyzt_units("mm")
    return header


class VolumeMaps:
    """Maps of values from 0 to 1 on the grid of a volume.

    Args:
        voxels: of the file.
    """

    def __init__(self, voxels: VoxelFile) -> None:
        self._voxels = voxels

    def write(self, depth: tuple[int, int], height: tuple[int, int], maps: NDArray[Any]) -> None:
        """Write a part: (N, d, h, W) of values from 0 to 1."""
        self._voxels.write(depth, height, np.rint(np.asarray(maps, np.float32) * FULL_SCALE))


@contextmanager
def maps_created(target: Path, geometry: Geometry, n_maps: int) -> Iterator[VolumeMaps]:
    """Write maps on the grid of a volume of any format, as 16-bit integers with a slope.

    Args:
        target: .nii.gz, a temporary name: after an error it is left half-written.
        geometry: of the volume.
        n_maps: how many, along a fourth axis where they are several.

    Raises:
        OSError: when the target cannot be written.
    """
    header = new_header(geometry, np.uint16, n_maps)
    header.set_slope_inter(1 / FULL_SCALE, 0)
    with created(target, header, geometry, level=1) as voxels:
        yield VolumeMaps(voxels)
