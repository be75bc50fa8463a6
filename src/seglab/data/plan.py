"""Plan: patch, batch and depth of the network where the user names none."""

import math
from collections.abc import Sequence

import numpy as np

from seglab.errors import ConfigError

PLANS = ("auto", "none")
LARGEST_PATCH = {2: (512, 512), 3: (64, 128, 128)}
"""In two dimensions the longest sides, in three as many voxels."""

BATCH = {2: 8, 3: 2}
STEP = 16
LEAST_LEVEL = 4
"""Pixels that a network's lowest level keeps along the shortest axis."""

MOST_POOLINGS = 4


def check_plan(plan: str) -> None:
    """Refuse an unknown plan.

    Raises:
        ConfigError: names the known ones.
    """
    if plan not in PLANS:
        raise ConfigError(
            "there is no such plan",
            given=f"data.plan={plan}",
            allowed=", ".join(PLANS),
            fix="set data.plan=auto, or none to leave the memory out of account",
        )


def plan_patch(
    wanted: Sequence[int] | None, shapes: Sequence[Sequence[int]], dims: int, spacings: Sequence[Sequence[float]]
) -> tuple[int, ...]:
    """Check a given patch size or derive one.

    Args:
        wanted: patch size of the user, or None: the median case, rounded down to a multiple of 16 and limited to
            512x512 in 2-D and to 64x128x128 voxels in 3-D, where a longer patch is cut so that it is about as long in
            mm along every axis.
        shapes: (D, H, W) of the cases.
        dims: 2 or 3.
        spacings: distance of pixels along (D, H, W) of the cases.

    Raises:
        ConfigError: a patch with the wrong number of axes or an axis below 16.
    """
    if wanted is None:
        median = np.median(np.array(shapes), axis=0)[-dims:]
        limits = LARGEST_PATCH[2] if dims == 2 else cube(median, np.median(np.array(spacings), axis=0))
        return tuple(int(n) // STEP * STEP if n >= STEP else STEP for n in np.minimum(median, limits))
    if len(wanted) != dims or min(wanted) < STEP:
        example = ",".join(map(str, LARGEST_PATCH[dims]))
        raise ConfigError(
            "the patch size does not fit the data",
            given=f"data.patch_size={list(wanted)} with data.dims={dims}",
            allowed=f"{dims} lengths of at least {STEP} pixels",
            fix=f"set data.patch_size=[{example}], or null to have it chosen",
        )
    return tuple(int(length) for length in wanted)


def cube(shape: Sequence[float], spacing: Sequence[float]) -> tuple[float, ...]:
    """Lengths in voxels of a box of the allowed volume, in mm as near a cube as the shape of a case lets it be.

    Args:
        shape: longest lengths, in voxels.
        spacing: mm per voxel.
    """
    lengths = [float(n) for n in shape]
    free = list(range(len(lengths)))
    while free:  # what an axis cannot take, as the case is thinner, goes to the others
        left = math.prod(LARGEST_PATCH[3]) / math.prod(
            lengths[axis] for axis in range(len(lengths)) if axis not in free
        )
        side = (left * math.prod(spacing[axis] for axis in free)) ** (1 / len(free))
        short = [axis for axis in free if side / spacing[axis] >= shape[axis]]
        if not short:
            for axis in free:
                lengths[axis] = side / spacing[axis]
            break
        free = [axis for axis in free if axis not in short]
    return tuple(lengths)


def plan_depth(patch: Sequence[int]) -> int:
    """Poolings after which the shortest axis of a patch still has four pixels, four at most, one at least."""
    return max(1, min(MOST_POOLINGS, int(math.log2(min(patch) / LEAST_LEVEL))))


def smaller(
    patch: tuple[int, ...], batch_size: int, *, may_cut: bool, may_share: bool
) -> tuple[tuple[int, ...], int] | None:
    """The next smaller step of training: half the batch, then a patch with its longest axis halved.

    Args:
        patch: spatial size.
        batch_size: samples.
        may_cut: whether the patch was left open.
        may_share: whether the batch was left open.

    Returns:
        Patch and batch size; None when nothing that was left open can get smaller.
    """
    if may_share and batch_size > 1:
        return patch, batch_size // 2
    if may_cut and max(patch) >= 2 * STEP:
        axis = patch.index(max(patch))
        return (*patch[:axis], patch[axis] // 2 // STEP * STEP, *patch[axis + 1 :]), batch_size
    return None
