"""Distances between the surfaces of two masks: Hausdorff, its 95th percentile, mean distance, surface Dice.

A surface pixel is a pixel of the mask that touches background by a face: surfaces are 6-connected in volumes and
4-connected in images. What lies beyond the border of the image is unknown: where a mask is cut by the border, the
cut face is no surface (erosion with border_value=1), and a mask that fills the whole image has none.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt
from scipy.spatial import cKDTree

from seglab.components import Box, Mask, bounding_box
from seglab.errors import ShapeError

MOST_QUERIES = 1_000_000
"""Surface pixels up to which a tree of points is faster than a map of distances."""

Distances = NDArray[np.float64]


@dataclass(frozen=True)
class SurfaceDistances:
    """Distances between two surfaces, from which every surface metric follows.

    Args:
        from_pred: of each surface pixel of the prediction to the nearest one of the truth, in the unit of spacing.
        from_truth: of each surface pixel of the truth to the nearest one of the prediction.
        farthest: the diagonal of the image, which stands for a distance to nothing.
    """

    from_pred: Distances
    from_truth: Distances
    farthest: float

    @property
    def hd(self) -> float:
        """Hausdorff distance: the largest of all distances; 0 where neither mask has a surface."""
        return max(_percentile(self.from_pred, 100), _percentile(self.from_truth, 100))

    @property
    def hd95(self) -> float:
        """The larger of the two 95th percentiles (linear between neighbours), one for each direction."""
        return max(_percentile(self.from_pred, 95), _percentile(self.from_truth, 95))

    @property
    def assd(self) -> float:
        """Average symmetric surface distance: the mean over the pixels of both surfaces."""
        return float(self._both.mean()) if len(self._both) else 0.0

    def nsd(self, tolerance: float) -> float:
        """Normalised surface Dice: share of the pixels of both surfaces that lie within `tolerance` of the other one.

        Source: Nikolov et al. 2018 (https://arxiv.org/abs/1809.04430), with pixels counted instead of areas.

        Args:
            tolerance: in the unit of the spacing; what is exactly as far counts as within.
        """
        return float(((self._both <= tolerance) & (self._both < self.farthest)).mean()) if len(self._both) else 1.0

    @cached_property
    def _both(self) -> Distances:
        return np.concatenate([self.from_pred, self.from_truth])


def surface_distances(pred: Mask, truth: Mask, spacing: Sequence[float]) -> SurfaceDistances:
    """Measure both surfaces against each other, within the box that holds both masks.

    Where only one of the masks has a surface, all its distances are the diagonal of the image.

    Args:
        pred: (H, W) or (D, H, W) bool.
        truth: the same shape.
        spacing: distance of neighbouring pixels along each axis.

    Raises:
        ShapeError: shapes that differ, or a spacing for another number of axes.
    """
    check_pair(pred, truth, spacing)
    farthest = diagonal(pred.shape, spacing)
    box = box_of_both(pred, truth)
    surfaces = [surface(mask[box]) for mask in (pred, truth)]
    return SurfaceDistances(
        _distances(surfaces[0], surfaces[1], spacing, farthest),
        _distances(surfaces[1], surfaces[0], spacing, farthest),
        farthest,
    )


def surface(mask: Mask) -> Mask:
    """The pixels of a mask that touch background by a face; beyond the border of the array nothing is background.

    Args:
        mask: (H, W) or (D, H, W) bool.
    """
    inner = mask.copy()
    for axis in range(mask.ndim):
        forward, backward = np.moveaxis(inner, axis, 0), np.moveaxis(mask, axis, 0)
        forward[1:] &= backward[:-1]
        forward[:-1] &= backward[1:]
    return np.logical_xor(mask, inner, out=inner)


def diagonal(shape: Sequence[int], spacing: Sequence[float]) -> float:
    """Length of the diagonal of an image, the largest distance that there can be in it."""
    return float(np.linalg.norm(np.multiply(shape, spacing)))


def box_of_both(pred: Mask, truth: Mask) -> Box:
    """The box around both masks and one pixel more where the image goes on."""
    boxes = [box for box in (bounding_box(pred), bounding_box(truth)) if box is not None]
    if not boxes:
        return (slice(0, 0),) * pred.ndim
    return tuple(
        slice(max(min(part.start for part in parts) - 1, 0), max(part.stop for part in parts) + 1)
        for parts in zip(*boxes, strict=True)
    )


def check_pair(pred: Mask, truth: Mask, spacing: Sequence[float]) -> None:
    """See that two masks and a spacing belong together.

    Raises:
        ShapeError: they do not.
    """
    if pred.shape != truth.shape or len(spacing) != truth.ndim:
        raise ShapeError(
            "prediction, truth and spacing do not fit",
            given=f"prediction {pred.shape}, truth {truth.shape}, spacing {tuple(spacing)}",
            allowed="two masks of one shape and one distance for each axis",
            fix="compare masks on the same grid",
        )


def _distances(start: Mask, goal: Mask, spacing: Sequence[float], farthest: float) -> Distances:
    """From each pixel of one surface to the nearest one of the other."""
    places = np.flatnonzero(start)
    if not len(places):
        return np.zeros(0)
    is_there = goal.reshape(-1)[places]
    found = np.zeros(len(places))
    far = places[~is_there]
    if not len(far):
        return found
    targets = np.flatnonzero(goal)
    if not len(targets):
        return np.full(len(places), farthest)
    if len(far) > MOST_QUERIES:
        found[~is_there] = distance_transform_edt(~goal, sampling=spacing).reshape(-1)[far]
    else:
        tree = cKDTree(_points(targets, goal.shape, spacing), leafsize=32, balanced_tree=False)
        found[~is_there] = tree.query(_points(far, goal.shape, spacing))[0]
    return found


def _points(places: NDArray[np.int64], shape: tuple[int, ...], spacing: Sequence[float]) -> Distances:
    axes = np.unravel_index(places, shape)
    return np.stack([axis * step for axis, step in zip(axes, spacing, strict=True)], axis=1)


def _percentile(distances: Distances, percent: float) -> float:
    return float(np.percentile(distances, percent)) if len(distances) else 0.0
