"""What a CT volume must be beside a readable file: voxels of a believable size that hold Hounsfield units."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from seglab.data.findings import notice
from seglab.data.formats import scratch
from seglab.errors import DataError
from seglab.spec import Geometry

VOXEL_MM = (0.05, 50.0)
"""Shortest and longest side of a voxel that is believed."""

BELOW_WATER_HU = -50
"""Fat and air lie below, water, soft tissue and noise above."""

MIN_SHARE = 1e-3
"""Least share of voxels below, those of the lowest value left out, as they may be padding."""


def check_voxel_size(geometry: Geometry, file: Path) -> None:
    """Refuse a voxel that no scanner makes, and warn of a header that was lost.

    Args:
        geometry: of the file, 4x4 affine.
        file: for the message.

    Raises:
        DataError: a side shorter or longer than `VOXEL_MM`.
    """
    shortest, longest = VOXEL_MM
    if not shortest <= min(geometry.spacing) <= max(geometry.spacing) <= longest:
        raise DataError(
            f"{file} has voxels of a size that no CT has",
            given=f"{' x '.join(f'{side:g}' for side in geometry.spacing)} mm (depth x height x width)",
            allowed=f"{shortest} to {longest} mm along each axis",
            fix="write the spacing in mm into the header, or take the volume out of the data set",
        )
    if np.array_equal(np.abs(np.asarray(geometry.affine)), np.eye(4)):
        fix = "nothing, if its voxels measure 1 mm; else write the true affine into the header"
        notice("warning", file, "has an identity affine, as if the header was lost", value="1 x 1 x 1 mm", fix=fix)


def check_hu(image: NDArray[Any], file: Path) -> None:
    """Refuse a volume without fat and air: no CT of a body lacks them.

    Args:
        image: (1, D, H, W).
        file: for the message.

    Raises:
        DataError: hardly anything lies below water but the lowest value.
    """
    ranges = [(plane.min(), plane.max()) for plane in scratch.planes(image)]
    lowest, highest = min(low for low, _ in ranges), max(high for _, high in ranges)
    # plane by plane: the whole as bool would take half as much again
    is_below = ((plane < BELOW_WATER_HU) & (plane > lowest) for plane in scratch.planes(image))
    n_below = sum(int(np.count_nonzero(mask)) for mask in is_below)
    if n_below < MIN_SHARE * image.size:
        raise DataError(
            f"{file} does not hold Hounsfield units",
            given=f"values {lowest:g} to {highest:g}, {n_below} of {image.size} voxels between the lowest "
            f"and {BELOW_WATER_HU}",
            allowed="air near -1000, fat near -100, water 0",
            fix="add the rescale intercept (often -1024) to the voxels, or set data.check_hu=false if they are right",
        )
