"""Plan: the training patch when the user names none."""

from collections.abc import Sequence

import numpy as np

from seglab.errors import ConfigError

LARGEST_PATCH = {2: (512, 512), 3: (64, 128, 128)}
STEP = 16


def plan_patch(wanted: Sequence[int] | None, shapes: Sequence[Sequence[int]], dims: int) -> tuple[int, ...]:
    """Check a given patch size or derive one.

    Args:
        wanted: patch size of the user, or None: the median training case, at most 512x512 in 2-D and 64x128x128 in 3-D,
            rounded down to a multiple of 16 where it is longer than that.
        shapes: (D, H, W) of the training cases.
        dims: 2 or 3.

    Raises:
        ConfigError: a patch with the wrong number of axes or an axis below 16.
    """
    if wanted is None:
        median = np.median(np.array(shapes), axis=0).astype(int)[-dims:]
        lengths = np.minimum(median, LARGEST_PATCH[dims])
        return tuple(int(n) // STEP * STEP if n >= STEP else STEP for n in lengths)
    if len(wanted) != dims or min(wanted) < STEP:
        example = ",".join(map(str, LARGEST_PATCH[dims]))
        raise ConfigError(
            "the patch size does not fit the data",
            given=f"data.patch_size={list(wanted)} with data.dims={dims}",
            allowed=f"{dims} lengths of at least {STEP} pixels",
            fix=f"set data.patch_size=[{example}], or null to have it chosen",
        )
    return tuple(int(length) for length in wanted)
