"""Maps of values from 0 to 1 beside the labels of a volume, written as they are finished.

NIfTI has no 16-bit floats: values are stored as 16-bit integers with a slope of 1/65535, which every reader applies.
"""

import gzip
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from seglab.data.formats import grid
from seglab.spec import Geometry

FULL_SCALE = 65535
_CHUNK = 1 << 22


class VolumeMaps:
    """Maps on the grid of a volume, in the axis order of its file; memory-mapped until they are compressed.

    Args:
        stored: (X, Y, Z, N) in file order.
        geometry: of the volume.
    """

    def __init__(self, stored: NDArray[Any], geometry: Geometry) -> None:
        self._views = [grid.reading_view(stored[..., index], geometry) for index in range(stored.shape[3])]

    def write(self, depth: tuple[int, int], height: tuple[int, int], maps: NDArray[Any]) -> None:
        """Write a part: (N, d, h, W) of values from 0 to 1."""
        for view, values in zip(self._views, maps, strict=True):
            view[slice(*depth), slice(*height)] = np.rint(np.asarray(values, np.float32) * FULL_SCALE)


@contextmanager
def created(target: Path, geometry: Geometry, n_maps: int) -> Iterator[VolumeMaps]:
    """Write maps on the grid of a volume of any format.

    Args:
        target: .nii.gz, a temporary name: after an error it is left half-written.
        geometry: of the volume.
        n_maps: how many, along a fourth axis where they are several.

    Raises:
        OSError: when the target cannot be written.
    """
    new: Any = nib.Nifti1Header  # untyped
    header = new()
    header.set_data_dtype(np.uint16)
    header.set_data_shape((*geometry.shape, n_maps) if n_maps > 1 else geometry.shape)
    header.set_sform(np.asarray(geometry.affine), code="scanner")
    header.set_qform(np.asarray(geometry.affine), code="scanner", strip_shears=True)
    header.set_xyzt_units("mm")
    header.set_slope_inter(1 / FULL_SCALE, 0)
    header["magic"], header["vox_offset"] = b"n+1", 352
    plain = target.with_name(f"plain-{target.name.removesuffix('.gz')}")
    with plain.open("wb") as stream:
        stream.write(header.binaryblock + bytes(4))
        stream.truncate(352 + int(np.prod(geometry.shape)) * n_maps * 2)
    shape = (*geometry.shape, n_maps)
    stored = np.memmap(plain, dtype=header.get_data_dtype(), mode="r+", offset=352, shape=shape, order="F")
    yield VolumeMaps(stored, geometry)
    stored.flush()
    del stored
    with plain.open("rb") as source, target.open("wb") as raw, gzip.GzipFile("", "wb", 1, raw, mtime=0) as packed:
        shutil.copyfileobj(source, packed, _CHUNK)
    plain.unlink()
