"""How sure a mean over cases is: a bootstrap over patients, photos or scenes."""

import math
from collections.abc import Hashable, Sequence

import numpy as np

N_RESAMPLES = 2000
LEVEL = 0.95
CHUNK = 2**22
"""Draws held at once."""


def interval(values: Sequence[float], groups: Sequence[Hashable], *, seed: int = 0) -> tuple[float, float]:
    """Confidence interval of 95 % of a mean, by the percentiles of 2000 means of groups drawn with replacement.

    Cases of one group (patient, photo or scene) are alike, so groups are drawn and not cases: an interval over cases
    would be too narrow.

    Args:
        values: of the cases.
        groups: of each case.
        seed: of the draw; the same values give the same interval, in any order.

    Returns:
        Lower and upper end; NaN for fewer than two groups.
    """
    sums: dict[Hashable, list[float]] = {}
    for value, group in zip(values, groups, strict=True):
        sums.setdefault(group, []).append(value)
    if len(sums) < 2:
        return math.nan, math.nan
    parts = np.array(sorted((math.fsum(members), len(members)) for members in sums.values()))  # (groups, 2)
    rng, means = np.random.default_rng(seed), []
    at_once = max(1, CHUNK // len(parts))
    for first in range(0, N_RESAMPLES, at_once):
        drawn = rng.integers(len(parts), size=(min(at_once, N_RESAMPLES - first), len(parts)))
        total = parts[drawn].sum(axis=1)  # (resamples, 2)
        means.append(total[:, 0] / total[:, 1])
    low, high = np.quantile(np.concatenate(means), [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)
