"""Boundary IoU: overlap of what lies near the contours, so that a large inside hides no ragged edge."""

from collections.abc import Sequence

import numpy as np
from scipy.ndimage import distance_transform_edt

from seglab.components import Mask
from seglab.metrics.surface import check_pair, diagonal

WIDTH = 0.02
"""Of the band along the inside of a contour, as a share of the image's diagonal."""


def boundary_iou(pred: Mask, truth: Mask, spacing: Sequence[float], farthest: float | None = None) -> float:
    """IoU of two bands: the pixels of each mask that lie within 2 % of the image's diagonal of its background.

    Source: Cheng et al. 2021 (https://arxiv.org/abs/2103.16562); here distances are Euclidean, a band is at least one
    pixel wide, and what lies beyond the border of the image is no background.

    Args:
        pred: (H, W) or (D, H, W) bool.
        truth: the same shape.
        spacing: distance of neighbouring pixels along each axis.
        farthest: the diagonal of the image that the masks were cut from; None for that of the masks. A cut must leave
            one pixel around the masks wherever the image goes on.

    Returns:
        0 to 1; where neither mask has a contour 1 if they are equal and 0 if one is empty and the other one full.

    Raises:
        ShapeError: shapes that differ, or a spacing for another number of axes.
    """
    check_pair(pred, truth, spacing)
    farthest = diagonal(pred.shape, spacing) if farthest is None else farthest
    width = max(WIDTH * farthest, *spacing)
    bands = [_band(mask, spacing, width) for mask in (pred, truth)]
    union = np.count_nonzero(bands[0] | bands[1])
    if not union:
        return float(pred.any() == truth.any())
    return np.count_nonzero(bands[0] & bands[1]) / union


def _band(mask: Mask, spacing: Sequence[float], width: float) -> Mask:
    if mask.all():
        return np.zeros_like(mask)
    near: Mask = mask & (distance_transform_edt(mask, sampling=spacing) <= width)
    return near
