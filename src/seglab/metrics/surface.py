"""Distances between the surfaces of two masks: Hausdorff, its 95th percentile, mean distance, surface Dice.

A surface pixel is a pixel of the mask that touches background by a face: surfaces are 6-connected in volumes and
4-connected in images. What lies beyond the border of the image is unknown: where a mask is cut by the border, the
cut face is no surface (erosion with border_value=1), and a mask that fills the whole image has none.

What is near is found by looking around, what is far by a tree of points, and when that is much by maps of distances.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt
from scipy.spatial import cKDTree

from seglab.components import Box, Labels, Mask, bounding_box
from seglab.errors import ShapeError

NEAR = 6.0
"""Pixels up to which every place around a surface pixel is looked at."""

AT_ONCE, FEW_FOUND = 16, 0.995
"""Looking goes on while each 16 places leave at most 99.5 % of the pixels: then it is faster than a tree of points."""

MOST_FAR = 200_000
"""Pixels farther away up to which a tree of points is faster than a map of distances."""

Places = NDArray[np.int64]
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


def surface_distances(
    pred: Mask, truth: Mask, spacing: Sequence[float], farthest: float | None = None
) -> SurfaceDistances:
    """Measure both surfaces against each other, within the box that holds both masks.

    Where one of the masks is empty, or has no surface while the other one has, all distances are `farthest`.

    Args:
        pred: (H, W) or (D, H, W) bool.
        truth: the same shape.
        spacing: distance of neighbouring pixels along each axis.
        farthest: the diagonal of the image that the masks were cut from; None for that of the masks. A cut must leave
            one pixel around the masks wherever the image goes on.

    Raises:
        ShapeError: shapes that differ, or a spacing for another number of axes.
    """
    check_pair(pred, truth, spacing)
    farthest = diagonal(pred.shape, spacing) if farthest is None else farthest
    masks = [np.ascontiguousarray(mask[box_of_both(pred, truth)]) for mask in (pred, truth)]
    if masks[0].any() != masks[1].any():
        missed = np.full(1, farthest)
        return SurfaceDistances(missed, missed, farthest)
    own, true = (surface(mask) for mask in masks)
    return SurfaceDistances(
        _distances(own, true, spacing, farthest), _distances(true, own, spacing, farthest), farthest
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


def box_of_both(pred: Labels, truth: Labels, is_in: Callable[[Labels], Mask] | None = None) -> Box:
    """The box around both masks and one pixel more where the image goes on.

    Args:
        pred: (H, W) or (D, H, W) bool, or labels.
        truth: the same shape.
        is_in: makes the mask of a plane out of its labels; None for masks.
    """
    boxes = [box for box in (bounding_box(pred, is_in), bounding_box(truth, is_in)) if box is not None]
    if not boxes:
        return (slice(0, 0),) * pred.ndim
    return tuple(
        slice(max(min(part.start for part in parts) - 1, 0), max(part.stop for part in parts) + 1)
        for parts in zip(*boxes, strict=True)
    )


def check_pair(pred: Labels, truth: Labels, spacing: Sequence[float]) -> None:
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
    if not goal.any():
        return np.full(len(places), farthest)
    found = _by_offsets(places, goal, spacing)
    far = np.flatnonzero(np.isinf(found))
    if len(far):
        found[far] = (_by_planes if len(far) > MOST_FAR else _by_tree)(places[far], goal, spacing)
    return found


def _by_offsets(places: Places, goal: Mask, spacing: Sequence[float]) -> Distances:
    """The same for pixels of which the nearest one is near, by looking at all places around them, nearest first.

    Infinite for the others: those beyond `NEAR`, and all that are left when looking farther finds next to nothing.
    """
    reach = NEAR * math.prod(spacing) ** (1 / goal.ndim)
    margin = [int(reach // step) for step in spacing]
    padded = np.pad(goal, [(length, length) for length in margin])
    around = np.indices([2 * length + 1 for length in margin]).reshape(goal.ndim, -1).T - margin
    lengths = np.linalg.norm(around * spacing, axis=1)
    nearest = np.argsort(lengths, kind="stable")[: int((lengths <= reach).sum())]
    # corner pixels of the cubes of places around the pixels, and how far behind them the places lie in the flat array
    corners = np.ravel_multi_index(np.unravel_index(places, goal.shape), padded.shape)
    steps = (around[nearest] + margin) @ (np.array(padded.strides) // padded.itemsize)
    found, left, flat = np.full(len(places), np.inf), np.arange(len(places)), padded.reshape(-1)
    for start in range(0, len(nearest), AT_ONCE):
        best, part = np.full(len(left), np.inf), slice(start, start + AT_ONCE)
        for step, length in zip(steps[part][::-1], lengths[nearest[part]][::-1], strict=True):
            best[flat[step:].take(corners)] = length  # nearer places overwrite those farther away
        is_open = np.isinf(best)
        found[left] = best
        n_before, left, corners = len(left), left[is_open], corners[is_open]
        if not len(left) or (start > 0 and len(left) > FEW_FOUND * n_before):
            break
    return found


def _by_tree(places: Places, goal: Mask, spacing: Sequence[float]) -> Distances:
    """The same by a tree of the points of the mask."""
    tree = cKDTree(_points(np.flatnonzero(goal), goal.shape, spacing), leafsize=32, balanced_tree=False)
    return np.asarray(tree.query(_points(places, goal.shape, spacing))[0], np.float64)


def _by_planes(places: Places, goal: Mask, spacing: Sequence[float]) -> Distances:
    """The same by a map of the distances within one plane after the other.

    Exact, as squares of distances within a plane and across planes add up; no map is larger than a plane.
    """
    planes, steps = (goal, spacing) if goal.ndim == 3 else (goal[None], (1.0, *spacing))
    depth, place = np.divmod(places, planes[0].size)
    best = np.full(len(places), np.inf)
    for index in np.flatnonzero(planes.any(axis=(1, 2))):
        within = distance_transform_edt(~planes[index], sampling=steps[1:]).reshape(-1)
        across = (np.abs(np.arange(len(planes)) - index) * steps[0])[depth] ** 2
        nearer = np.flatnonzero(across < best)
        best[nearer] = np.minimum(best[nearer], within[place[nearer]] ** 2 + across[nearer])
    return np.asarray(np.sqrt(best), np.float64)


def _points(places: Places, shape: tuple[int, ...], spacing: Sequence[float]) -> Distances:
    axes = np.unravel_index(places, shape)
    return np.stack([axis * step for axis, step in zip(axes, spacing, strict=True)], axis=1)


def _percentile(distances: Distances, percent: float) -> float:
    return float(np.percentile(distances, percent)) if len(distances) else 0.0
