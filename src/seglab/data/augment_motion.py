"""Where the pixels of an augmented sample come from: flips, turns, affine and elastic as one map, applied once.

Offsets are (x, y) about the centre of the plane, from the output to the input; pixel centres are whole numbers.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

BORDER = cv2.BORDER_REFLECT
AT_ONCE = 4
"""Planes that are moved together: as four channels they take hardly longer than one, and less than two or three."""

ROWS_AT_ONCE = 32
"""Rows of the map that are computed in double precision before they are stored in single: they fit into the cache."""

WEIGHT_STEPS, PLACE_STEPS = 1 << 16, 1 << 8
"""Spline weights and control points are multiples of one over these, so that their sums are exact in float64.

Thus the order of summation, which differs with the number of threads, changes no bit.
"""


@dataclass(frozen=True, kw_only=True)
class Motion:
    """One drawn movement, the same for image and mask.

    Args:
        size: (H, W).
        flips: whether each of (D, H, W) is reversed.
        turns: quarter turns after the flips, as by numpy.rot90 in (H, W); square planes only.
        linear: 2x2, applied to the offsets.
        shift: (x, y) pixels added after it.
        bend: displacements (x, y) of the control points before the linear part, (2, rows, columns); None for none.
        step: pixels between control points.
    """

    size: tuple[int, int]
    flips: tuple[bool, ...]
    turns: int
    linear: NDArray[np.float64]
    shift: NDArray[np.float64]
    bend: NDArray[np.float64] | None
    step: int

    def move(self, image: NDArray[Any]) -> NDArray[Any]:
        """Move an image: (C, D, H, W) of any type -> the same sizes; uint8 stays, all else becomes float32.

        Mere flips and turns copy pixels; else each value is interpolated once, bilinear. float32 is what the linear
        interpolation is fastest in, next to uint8; that of int16 takes twice as long.
        """
        image = image if image.dtype == np.uint8 else image.astype(np.float32)
        return self._moved(image, cv2.INTER_LINEAR)

    def move_labels(self, mask: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Move a mask: (D, H, W) -> the same; each pixel takes the label of the nearest one."""
        return self._moved(mask[None], cv2.INTER_NEAREST)[0]

    def _moved(self, array: NDArray[Any], how: int) -> NDArray[Any]:
        if self.bend is None and not self.shift.any() and np.array_equal(self.linear, np.eye(2)):
            return self._reoriented(array)
        array = array[:, ::-1] if self.flips[0] else array
        moved = np.empty(array.shape, array.dtype)
        for planes, target in zip(_together(array), _together(moved), strict=True):
            _spread(self._warped(_stacked(planes), how), target)
        return moved

    def _reoriented(self, array: NDArray[Any]) -> NDArray[Any]:
        axes = [axis for axis, reversed_ in zip((-3, -2, -1), self.flips, strict=True) if reversed_]
        turned = np.rot90(np.flip(array, axes), self.turns, (-2, -1))
        return np.array(turned, order="C")  # a copy, as what was given may be a mapped file

    def _warped(self, stack: NDArray[Any], how: int) -> NDArray[Any]:
        if self.bend is None:
            size = self.size[::-1]
            return cv2.warpAffine(stack, self.matrix, size, flags=how | cv2.WARP_INVERSE_MAP, borderMode=BORDER)
        return cv2.remap(stack, *self.places, how, borderMode=BORDER)

    @cached_property
    def matrix(self) -> NDArray[np.float64]:
        """Input pixel of each output pixel without the elastic part: 2x3, on (x, y, 1)."""
        _, flip_y, flip_x = self.flips
        flip = np.diag([-1.0 if flip_x else 1.0, -1.0 if flip_y else 1.0])
        turn = np.linalg.matrix_power(np.array([[0.0, -1.0], [1.0, 0.0]]), self.turns)
        linear = flip @ turn @ self.linear
        centre = (np.array(self.size[::-1]) - 1) / 2
        return np.column_stack([linear, centre + self.shift - linear @ centre])

    @cached_property
    def places(self) -> NDArray[np.float32]:
        """Input pixel of each output pixel: (2, H, W), x and y; splines keep straight lines, so all is one product."""
        rows, columns = (spline_weights(length, self.step) for length in self.size)
        knots = [self.step * (np.arange(n) - 1.0) for n in (columns.shape[1], rows.shape[1])]
        x, y = np.stack(np.meshgrid(*knots)) + (0 if self.bend is None else self.bend)
        controls = np.stack([a * x + b * y + c for a, b, c in self.matrix])
        halfway = rows @ (np.round(controls * PLACE_STEPS) / PLACE_STEPS)  # (2, H, columns of control points)
        places = np.empty((2, *self.size), np.float32)
        for first in range(0, self.size[0], ROWS_AT_ONCE):
            some = slice(first, first + ROWS_AT_ONCE)
            places[:, some] = halfway[:, some] @ columns.T
        return places


def linear_map(*, angle: float, zoom: float, shear: float) -> NDArray[np.float64]:
    """Offsets (x, y) in the input of offsets in an output that is rotated, enlarged and sheared.

    Args:
        angle: radians.
        zoom: above 1 enlarges.
        shear: radians by which the vertical leans.
    """
    cos, sin = math.cos(angle) / zoom, math.sin(angle) / zoom
    return np.array([[cos, -sin], [sin, cos]]) @ np.array([[1.0, math.tan(shear)], [0.0, 1.0]])


def n_controls(length: int, step: int) -> int:
    """Control points along an axis of `length` pixels: four act on each pixel."""
    return (length - 1) // step + 4


@lru_cache(maxsize=16)
def spline_weights(length: int, step: int) -> NDArray[np.float64]:
    """Share of each control point in each pixel: uniform cubic B-splines, (length, n_controls).

    The first control point lies one step before pixel 0.
    """
    first, rest = np.divmod(np.arange(length), step)
    t = rest / step
    parts = [(1 - t) ** 3, 3 * t**3 - 6 * t**2 + 4, -3 * t**3 + 3 * t**2 + 3 * t + 1, t**3]
    weights = np.zeros((length, n_controls(length, step)))
    for offset, part in enumerate(parts):
        weights[np.arange(length), first + offset] = np.round(part / 6 * WEIGHT_STEPS) / WEIGHT_STEPS
    return weights


def _together(array: NDArray[Any]) -> Iterator[list[NDArray[Any]]]:
    """The planes of (C, D, H, W), some at a time."""
    planes = [plane for channel in array for plane in channel]
    for start in range(0, len(planes), AT_ONCE):
        yield planes[start : start + AT_ONCE]


def _stacked(planes: list[NDArray[Any]]) -> NDArray[Any]:
    """Planes as the channels of one image, filled up to `AT_ONCE`: (H, W, n); one plane stays (H, W)."""
    if len(planes) == 1:
        return np.ascontiguousarray(planes[0])
    stack: NDArray[Any] = cv2.merge([*planes, *planes[:1] * (AT_ONCE - len(planes))])
    return stack


def _spread(stack: NDArray[Any], targets: list[NDArray[Any]]) -> None:
    """Write the channels of an image into planes."""
    if stack.ndim == 2:
        targets[0][:] = stack
        return
    for index, target in enumerate(targets):
        cv2.extractChannel(stack, index, dst=target)
