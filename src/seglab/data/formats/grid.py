"""What all formats of volumes share: one reading order, a checked affine, plain numbers, whole labels.

Reading order: D runs from inferior to superior, H from anterior to posterior, W from the patient's right to the left,
which is the radiologist's picture (front on top, the patient's right on the left side). Axes are permuted and flipped
to the nearest such order by the affine; nothing is resampled, so an oblique volume stays oblique.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from seglab.data.formats import scratch
from seglab.data.integrity import shorten
from seglab.errors import DataError
from seglab.spec import Geometry

Number = TypeVar("Number", bound=np.generic)

MAX_VOXELS = 2_000_000_000
"""A header that claims more is refused before memory is taken."""

LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
"""From the axes of DICOM and ITK to those of `Geometry`."""

_orientations: Any = nib.orientations  # untyped
_READING = _orientations.axcodes2ornt(("L", "P", "S"))


def geometry_of(shape: Sequence[int], affine: NDArray[np.float64], path: Path) -> Geometry:
    """Describe a volume.

    Args:
        shape: (X, Y, Z) in the file's axis order.
        affine: 4x4, voxel to RAS mm.
        path: for the message.

    Raises:
        DataError: not 3-D, too large, or an affine that is not finite or has dependent axes.
    """
    if len(shape) != 3 or min(shape) < 1 or int(np.prod(shape, dtype=object)) > MAX_VOXELS:
        refuse(path, "is no volume that can be used", f"shape {tuple(shape)}", f"3 axes, at most {MAX_VOXELS} voxels")
    _check_affine(affine, path)
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    axis_of = {int(world): axis for axis, (world, _) in enumerate(_orientations.io_orientation(affine))}
    return Geometry(
        shape=(int(shape[0]), int(shape[1]), int(shape[2])),
        spacing=(float(spacing[axis_of[2]]), float(spacing[axis_of[1]]), float(spacing[axis_of[0]])),
        affine=tuple(tuple(float(value) for value in row) for row in affine),
    )


def to_reading_order(stored: NDArray[Any], geometry: Geometry) -> NDArray[Any]:
    """Voxels (X, Y, Z) in file order -> (D, H, W)."""
    return np.ascontiguousarray(reading_view(stored, geometry))


def reading_view(stored: NDArray[Any], geometry: Geometry) -> NDArray[Any]:
    """The same memory in reading order: (X, Y, Z) in file order -> (D, H, W)."""
    own = _orientations.io_orientation(np.asarray(geometry.affine))
    turned: NDArray[Any] = _orientations.apply_orientation(stored, _orientations.ornt_transform(own, _READING))
    return turned.transpose(2, 1, 0)  # (X, Y, Z) -> (D, H, W)


def to_file_order(labels: NDArray[Number], geometry: Geometry, like: Path) -> NDArray[Number]:
    """The same memory in file order: labels (D, H, W) -> (X, Y, Z).

    Raises:
        DataError: labels of another size than the file that they were predicted from.
    """
    own = _orientations.io_orientation(np.asarray(geometry.affine))
    back = _orientations.ornt_transform(_READING, own)
    turned: NDArray[Number] = _orientations.apply_orientation(labels.transpose(2, 1, 0), back)
    if turned.shape != geometry.shape:
        raise DataError(
            f"labels cannot be written on the grid of {like}",
            given=f"labels {labels.shape} for a volume of {geometry.shape} in its own axis order",
            allowed="labels of the size that was read",
            fix="write the labels of the image that `like` names",
        )
    return turned


class Voxels:
    """A volume that arrives in slabs: memory holds it once, in reading order, and a slab; or the slab only.

    int16 as long as every value is an integer in its range, else float32.

    Args:
        n_channels: volumes on one grid.
        geometry: of each.
        path: for messages.
        folder: of a file that holds the volume; None for memory.
    """

    def __init__(self, n_channels: int, geometry: Geometry, path: Path, folder: Path | None = None) -> None:
        self.geometry, self.path, self.folder, self.n_bad = geometry, path, folder, 0
        shape = reading_view(np.broadcast_to(np.int16(0), geometry.shape), geometry).shape
        self.image = scratch.empty((n_channels, *shape), np.int16, folder)

    def add(self, channel: int, first: int, slab: NDArray[Any]) -> None:
        """Add planes.

        Args:
            channel: of the volume.
            first: place of the first plane along the file's last axis.
            slab: (X, Y, n) in file order.
        """
        self.n_bad += _count_bad(slab)
        if not self.n_bad:
            values = native(slab)
            if values.dtype != np.int16 and self.image.dtype == np.int16:
                self._widen(values.dtype)
            stored = to_file_order(self.image[channel], self.geometry, self.path)
            stored[:, :, first : first + slab.shape[2]] = values
            scratch.forget(self.image)

    def _widen(self, dtype: np.dtype[Any]) -> None:
        narrow, self.image = self.image, scratch.empty(self.image.shape, dtype, self.folder)
        for plane, wide in zip(scratch.planes(narrow), scratch.planes(self.image), strict=True):
            wide[:] = plane

    def finished(self) -> NDArray[Any]:
        """The volume (C, D, H, W), when all slabs were added.

        Raises:
            DataError: how many voxels are NaN or infinite.
        """
        _refuse_bad(self.n_bad, self.image.size, self.path)
        return self.image


def native(stored: NDArray[Any]) -> NDArray[Any]:
    """int16 when every value is an integer in its range, else float32."""
    limits = np.iinfo(np.int16)
    in_range = limits.min <= stored.min() and stored.max() <= limits.max
    if in_range and (stored.dtype.kind in "iu" or bool(np.all(stored == np.rint(stored)))):
        return stored.astype(np.int16)
    return stored.astype(np.float32)


def check_finite(stored: NDArray[Any], path: Path) -> None:
    """Refuse voxels that are no numbers.

    Raises:
        DataError: how many are NaN or infinite.
    """
    _refuse_bad(_count_bad(stored), stored.size, path)


def _count_bad(stored: NDArray[Any]) -> int:
    return 0 if stored.dtype.kind in "iu" else stored.size - int(np.count_nonzero(np.isfinite(stored)))


def _refuse_bad(n_bad: int, n_all: int, path: Path) -> None:
    if n_bad:
        raise DataError(
            f"{path} holds voxels that are no numbers",
            given=f"{n_bad} of {n_all} voxels are NaN or infinite",
            allowed="finite values",
            fix="export the volume again, or replace these voxels by the value of air",
        )


def as_labels(stored: NDArray[Any], path: Path) -> NDArray[np.uint8]:
    """The same numbers as uint8.

    Raises:
        DataError: values that are no integers from 0 to 255.
    """
    rounded = stored if stored.dtype.kind in "iu" else np.rint(stored)
    odd = (np.abs(stored - rounded) > 1e-6) | (rounded < 0) | (rounded > 255)  # a slope of 1/255 is exact to 6e-8
    if odd.any():
        raise DataError(
            f"{path} is no mask",
            given=f"{np.count_nonzero(odd)} voxels such as {shorten(f'{v:g}' for v in np.unique(stored[odd]))}",
            allowed="integers from 0 to 255",
            fix="export the labels without interpolation as unsigned 8-bit integers",
        )
    return rounded.astype(np.uint8)


def refuse(path: Path, what: str, given: str, allowed: str) -> NoReturn:
    """Raise the error of a volume whose header or content is wrong."""
    raise DataError(
        f"{path} {what}",
        given=given,
        allowed=allowed,
        fix="export the volume again with a correct header, or take it out of the data set",
    )


def _check_affine(affine: NDArray[np.float64], path: Path) -> None:
    allowed = "a finite affine with three independent axes"
    lengths = np.linalg.norm(affine[:3, :3], axis=0)
    if not np.isfinite(affine).all() or lengths.min() == 0:
        refuse(path, "has an impossible affine", str(affine.tolist()), allowed)
    if abs(np.linalg.det(affine[:3, :3] / lengths)) < 1e-3:
        refuse(path, "has an affine whose axes lie in one plane", str(affine.round(4).tolist()), allowed)
