"""Scores of thin structures such as cracks and vessels, where a pixel more or less in width says little."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.ndimage import distance_transform_edt
from skimage.morphology import skeletonize

from seglab.components import Mask
from seglab.metrics.surface import box_of_both, check_pair

TOLERANCES_PX = (0, 2, 5)
"""Pixels that a prediction may be off in the tolerance F1; at 0 it is the Dice."""

_ALL, _FIRST, _LAST = slice(None), slice(None, -1), slice(1, None)
_STEPS = (
    ((_ALL, _FIRST), (_ALL, _LAST), 1.0),
    ((_FIRST, _ALL), (_LAST, _ALL), 1.0),
    ((_FIRST, _FIRST), (_LAST, _LAST), math.sqrt(2)),
    ((_FIRST, _LAST), (_LAST, _FIRST), math.sqrt(2)),
)
"""Two views of an image whose pixels are a step apart, and the length of the step."""


@dataclass(frozen=True)
class Crack:
    """Extent of the thin structures of an image.

    Args:
        length: of all centre lines, in pixels.
        width: area divided by length, in pixels; 0 where there is nothing.
    """

    length: float
    width: float


def thin_scores(pred: Mask, truth: Mask, spacing: Sequence[float]) -> dict[str, float]:
    """Scores of one class of which at least one mask holds something.

    Args:
        pred: (H, W) or (D, H, W) bool.
        truth: the same shape.
        spacing: of the axes; only their number counts, as thin structures are measured in pixels.

    Returns:
        cldice, f1_<tolerance>px; in two dimensions length_true, length_pred, width_true, width_pred and their
        differences, prediction less truth.

    Raises:
        ShapeError: shapes that differ, or a spacing for another number of axes.
    """
    check_pair(pred, truth, spacing)
    box = box_of_both(pred, truth)
    pred, truth = pred[box], truth[box]
    skeletons = [centre_line(mask) for mask in (pred, truth)]
    found = {"cldice": _harmonic(_share(truth, skeletons[0]), _share(pred, skeletons[1]))}
    found |= {f"f1_{pixels}px": score for pixels, score in tolerance_f1(pred, truth).items()}
    if pred.ndim == 2:
        cracks = [measure(mask, line) for mask, line in zip((pred, truth), skeletons, strict=True)]
        for what in ("length", "width"):
            own, true = (getattr(crack, what) for crack in cracks)
            found |= {f"{what}_true": true, f"{what}_pred": own, f"{what}_difference": own - true}
    return found


def cldice(pred: Mask, truth: Mask) -> float:
    """Centre line Dice: the harmonic mean of the shares of each centre line that lie in the other mask.

    Source: Shit et al. 2021 (https://arxiv.org/abs/2003.07311), with skeletons of scikit-image.

    Args:
        pred: (H, W) or (D, H, W) bool.
        truth: the same shape.
    """
    return _harmonic(_share(truth, centre_line(pred)), _share(pred, centre_line(truth)))


def tolerance_f1(pred: Mask, truth: Mask, tolerances: Sequence[int] = TOLERANCES_PX) -> dict[int, float]:
    """F1 of pixels that count as right when the other mask has one within a distance in pixels, for each distance."""
    if not (pred.any() and truth.any()):
        return dict.fromkeys(tolerances, 0.0)
    to_truth = distance_transform_edt(~truth)[pred]
    to_pred = distance_transform_edt(~pred)[truth]
    return {
        pixels: _harmonic(float((to_truth <= pixels).mean()), float((to_pred <= pixels).mean()))
        for pixels in tolerances
    }


def centre_line(mask: Mask) -> Mask:
    """Skeleton of a mask, one pixel wide (Zhang and Suen 1984 in images, Lee et al. 1994 in volumes)."""
    if not mask.any():
        return np.zeros_like(mask)
    line: Mask = skeletonize(mask).astype(np.bool_)  # type: ignore[no-untyped-call]
    return line


def measure(mask: Mask, line: Mask) -> Crack:
    """Length and mean width in an image.

    The length is that of the steps from pixel to pixel of the centre line, 1 along an axis and the root of 2 across,
    and half a pixel more at each end. A step across counts only where no two steps along the axes join the pixels.

    Args:
        mask: (H, W) bool.
        line: its centre line.
    """
    length, ends = 0.0, np.full(line.shape, 2, np.int64)
    for one, two, step in _STEPS:
        joined = line[one] & line[two]
        if step > 1:
            joined &= ~(line[one[0], two[1]] | line[two[0], one[1]])
        length += step * np.count_nonzero(joined)
        ends[one] -= joined
        ends[two] -= joined
    length += 0.5 * int(np.clip(ends[line], 0, None).sum())
    return Crack(length, np.count_nonzero(mask) / length if length else 0.0)


def _share(mask: Mask, line: Mask) -> float:
    n = np.count_nonzero(line)
    return np.count_nonzero(mask & line) / n if n else 0.0


def _harmonic(one: float, two: float) -> float:
    return 2 * one * two / (one + two) if one + two else 0.0
