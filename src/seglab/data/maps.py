"""Distance maps of a mask, for losses that weigh pixels by where they lie; class 0 counts as background.

Distances are Euclidean, in pixels (voxels) of the patch. A border is only what the patch shows: neither its edge nor
the edge of ignored pixels is one. Values at ignored pixels are finite and mean nothing.
"""

from collections.abc import Callable, Iterable
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor

from seglab.errors import ConfigError
from seglab.spec import IGNORE_INDEX

LARGEST_FAST = 1400
"""Longest diagonal of a patch, pixels, for OpenCV's distances, four times as fast as scipy's: the last bit of its roots
depends on where an array lies in memory, and only up to here the whole number below the root is certain."""

Mask = NDArray[np.integer[Any]]
Map = NDArray[np.float32]

FAR = 1e6
"""Distance to what is not in the patch, pixels: every weight that falls off with distance is 0 there."""


def border_map(mask: Mask, ignore: int = IGNORE_INDEX) -> Map:
    """Distance to the nearest plus distance to the second-nearest instance border (d1 + d2 of U-Net's weights).

    An instance is a connected component of a class, pixels that touch at a corner included; its border are its pixels
    with a neighbour outside. With fewer than two instances the sum is at least `FAR`.

    Args:
        mask: (H, W) or (D, H, W).
        ignore: value of pixels without a class.
    """
    instances = _instances(mask, ignore)
    borders = np.where(_edge_pixels(instances, mask != ignore), instances, 0)
    if not borders.any():
        return np.full(mask.shape, FAR, np.float32)
    first, where = ndimage.distance_transform_edt(borders == 0, return_indices=True)
    nearest = borders[tuple(where)]
    total: Map = (first + _second_distance(borders, nearest)).astype(np.float32)
    return total


def outline_map(mask: Mask, ignore: int = IGNORE_INDEX) -> Map:
    """Distance to the outline of the foreground, the union of all classes but 0; `FAR` where there is none.

    The outline are the foreground's pixels with a neighbour in the background.

    Args:
        mask: (H, W) or (D, H, W).
        ignore: value of pixels without a class.
    """
    valid = mask != ignore
    outline = _edge_pixels(((mask > 0) & valid).astype(np.int32), valid)
    return _distance_to(outline).astype(np.float32)


def signed_map(mask: Mask, ignore: int = IGNORE_INDEX) -> Map:
    """Distance to the edge of the foreground, the union of all classes but 0: positive outside, negative inside.

    The edge runs between pixels, half a pixel from the centres on both its sides. Zero everywhere when the mask holds
    foreground only or none, and at ignored pixels: there is no edge to draw the prediction to.

    Args:
        mask: (H, W) or (D, H, W).
        ignore: value of pixels without a class.
    """
    valid = mask != ignore
    inside, outside = (mask > 0) & valid, (mask == 0) & valid
    if not inside.any() or not outside.any():
        return np.zeros(mask.shape, np.float32)
    signed = np.where(inside, 0.5 - _distance_to(outside), _distance_to(inside) - 0.5)
    return np.where(valid, signed, 0).astype(np.float32)


MAPS: dict[str, Callable[[Mask, int], Map]] = {"border": border_map, "outline": outline_map, "signed": signed_map}
"""What a loss may ask for by its `map_name`."""


def distance_maps(mask: Tensor, names: Iterable[str]) -> dict[str, Tensor]:
    """Maps of one sample by name.

    Args:
        mask: (*spatial) integers.
        names: keys of `MAPS`.

    Returns:
        (*spatial) float32 under each name.

    Raises:
        ConfigError: a map that does not exist.
    """
    names = tuple(names)
    if not set(names) <= MAPS.keys():
        raise ConfigError(
            "there is no such distance map",
            given=", ".join(names),
            allowed=", ".join(MAPS),
            fix="give the loss one of these as its map_name",
        )
    return {name: torch.from_numpy(MAPS[name](mask.numpy(), IGNORE_INDEX)) for name in names}


def _instances(mask: Mask, ignore: int) -> NDArray[np.int32]:
    """Connected components of every class but 0, numbered from 1."""
    labels = np.zeros(mask.shape, np.int32)
    total = 0
    for value in np.unique(mask):
        if value not in (0, ignore):
            parts, n_parts = ndimage.label(mask == value, structure=np.ones((3,) * mask.ndim))
            labels = np.where(parts > 0, parts + total, labels)
            total += n_parts
    return labels


def _edge_pixels(labels: NDArray[np.int32], valid: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Labelled pixels of which a neighbour along an axis has another label and is not ignored."""
    edge = np.zeros(labels.shape, bool)
    for axis in range(labels.ndim):
        moved, seen, marked = (np.moveaxis(array, axis, 0) for array in (labels, valid, edge))  # views
        differs = (moved[1:] != moved[:-1]) & seen[1:] & seen[:-1]
        marked[1:] |= differs
        marked[:-1] |= differs
    return edge & (labels > 0)


def _second_distance(borders: NDArray[np.int32], nearest: NDArray[np.int32]) -> NDArray[np.float64]:
    """Distance to the nearest border that is not of the instance `nearest`.

    Two numbers differ in at least one bit. So the transforms of the borders with a bit set and of those without it, two
    per bit, hold every other instance's distance: few transforms however many instances there are.
    """
    second = np.full(borders.shape, FAR)
    for bit in range(int(borders.max()).bit_length()):
        is_set, nearest_is_set = (borders >> bit & 1).astype(bool), (nearest >> bit & 1).astype(bool)
        for group, others in ((is_set, ~nearest_is_set), (~is_set, nearest_is_set)):
            np.minimum(second, _distance_to(group & (borders > 0)), out=second, where=others)
    return second


def _distance_to(target: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Distance to the nearest pixel of `target`, `FAR` when it is empty."""
    if not target.any():
        return np.full(target.shape, FAR)
    if target.ndim == 2 and np.hypot(*target.shape) < LARGEST_FAST:
        rooted = cv2.distanceTransform((~target).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
        return np.sqrt(np.rint(np.square(rooted.astype(np.float64))))
    distance: NDArray[np.float64] = ndimage.distance_transform_edt(~target)
    return distance
