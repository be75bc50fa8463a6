"""Boundary IoU: overlap of what lies near the contours, so that a large inside hides no ragged edge."""

from collections.abc import Sequence

import numpy as np
from scipy.ndimage import distance_transform_edt

from seglab.components import Mask
from seglab.metrics.surface import check_pair, diagonal

WIDTH = 0.02
"""Of the band along the inside of a contour, as a share of the image's diagonal."""


def boundary_iou(pred: Mask, truth: Mask, spacing: Sequence[float]) -> float:
    """IoU of two bands: the pixels of each mask that lie within 2 % of the image's diagonal of its background.

    Source: Cheng et al. 2021 (https://arxiv.org/abs/2103.16562); here distances are Euclidean, a band is at least one
    pixel wide, and what lies beyond the border of the image is no background.

    Args:
        pred: (H, W) or (D, H, W) bool.
        truth: the same shape.
        spacing: distance of neighbouring pixels along each axis.

    Returns:
        0 to 1; 1 where neither mask has a contour.

    Raises:
        ShapeError: shapes that differ, or a spacing for another number of axes.
    """
    check_pair(pred, truth, spacing)
    width = max(WIDTH * diagonal(pred.shape, spacing), *spacing)
    bands = [_band(mask, spacing, width) for mask in (pred, truth)]
    union = np.count_nonzero(bands[0] | bands[1])
    return np.count_nonzero(bands[0] & bands[1]) / union if union else 1.0


def _band(mask: Mask, spacing: Sequence[float], width: float) -> Mask:
    if mask.all():
        return np.zeros_like(mask)
    near: Mask = mask & (distance_transform_edt(mask, sampling=spacing) <= width)
    return near
