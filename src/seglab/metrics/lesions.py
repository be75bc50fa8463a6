"""Scores of lesions: each connected component of the truth is one, found or not, however large it is."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from seglab.components import Mask, components
from seglab.metrics.measures import SIZES
from seglab.metrics.surface import box_of_both, check_pair

FOUND_AT_IOU = 0.1
"""Overlap from which a predicted lesion and a true one are the same."""

SIZE_LIMITS = (10.0, 20.0)
"""Diameter, in the unit of the spacing, from which a lesion is medium and from which it is large: mm or pixels."""


@dataclass(frozen=True)
class Lesions:
    """The lesions of a case.

    Args:
        diameters: of each true lesion: that of the disc or ball of its size.
        dice: of each true lesion with the predicted one that was matched to it; 0 for a lesion that was not found.
        n_pred: predicted lesions.
    """

    diameters: NDArray[np.float64]
    dice: NDArray[np.float64]
    n_pred: int

    @property
    def scores(self) -> dict[str, float]:
        """Detection F1, mean Dice of the true lesions (NaN without any), and the numbers behind them by size."""
        n_true, n_found = len(self.dice), int((self.dice > 0).sum())
        both = n_true + self.n_pred
        found = {
            "lesion_f1": 2 * n_found / both if both else math.nan,
            "lesion_dice": float(self.dice.mean()) if n_true else math.nan,
            "n_lesions": float(n_true),
            "n_lesions_pred": float(self.n_pred),
            "n_lesions_found": float(n_found),
        }
        size = np.digitize(self.diameters, SIZE_LIMITS)
        for index, name in enumerate(SIZES):
            found[f"n_lesions_{name}"] = float((size == index).sum())
            found[f"n_lesions_found_{name}"] = float((self.dice[size == index] > 0).sum())
        return found


def lesions(pred: Mask, truth: Mask, spacing: Sequence[float], *, found_at_iou: float = FOUND_AT_IOU) -> Lesions:
    """Match predicted lesions to true ones, one to one, the pair with the largest IoU first.

    Pixels that touch by a corner belong to one lesion.

    Args:
        pred: (H, W) or (D, H, W) bool.
        truth: the same shape.
        spacing: distance of neighbouring pixels along each axis.
        found_at_iou: IoU from which a pair matches, above 0.

    Raises:
        ShapeError: shapes that differ, or a spacing for another number of axes.
    """
    check_pair(pred, truth, spacing)
    box = box_of_both(pred, truth)
    own, true = components(pred[box]), components(truth[box])
    dice = np.zeros(len(true.sizes))
    both = pred[box] & truth[box]
    if both.any():
        shared = true.image()[both].astype(np.int64) * (len(own.sizes) + 1) + own.image()[both]
        keys, counts = np.unique(shared, return_counts=True)
        t, p = np.divmod(keys, len(own.sizes) + 1)
        sums = true.sizes[t - 1] + own.sizes[p - 1]
        iou = counts / (sums - counts)
        free_t, free_p = np.ones(len(true.sizes) + 1, bool), np.ones(len(own.sizes) + 1, bool)
        for pair in np.argsort(-iou, kind="stable"):
            if iou[pair] >= found_at_iou and free_t[t[pair]] and free_p[p[pair]]:
                free_t[t[pair]] = free_p[p[pair]] = False
                dice[t[pair] - 1] = 2 * counts[pair] / sums[pair]
    return Lesions(_diameters(true.sizes, spacing), dice, len(own.sizes))


def _diameters(sizes: NDArray[np.int64], spacing: Sequence[float]) -> NDArray[np.float64]:
    """Of the disc or ball of each size."""
    content = sizes * math.prod(spacing)
    found = 2 * np.sqrt(content / math.pi) if len(spacing) == 2 else 2 * np.cbrt(3 * content / (4 * math.pi))
    return np.asarray(found, np.float64)
