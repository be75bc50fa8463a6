"""Where the pixels of an augmented sample come from: flips, turns, affine and elastic as one map, applied once.

Offsets are (x, y) about the centre of the plane, from the output to the input; pixel centres are whole numbers. What
is one number or four is computed in plain Python, as numpy takes longer for it than OpenCV for a thousand pixels.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache, partial
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from seglab.data.augmentation.stacks import BORDER, Change, changed

Linear = tuple[tuple[float, float], tuple[float, float]]
"""2x2, on offsets (x, y)."""

SAME: Linear = ((1.0, 0.0), (0.0, 1.0))
TURNS = ((1, 0), (0, 1), (-1, 0), (0, -1))
"""Cosine and sine of quarter turns."""

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
        linear: applied to the offsets.
        shift: (x, y) pixels added after it.
        bend: displacements (x, y) of the control points before the linear part, (2, rows, columns); None for none.
        step: pixels between control points.
    """

    size: tuple[int, int]
    flips: tuple[bool, ...] = (False, False, False)
    turns: int = 0
    linear: Linear = SAME
    shift: tuple[float, float] = (0.0, 0.0)
    bend: NDArray[np.float64] | None = None
    step: int = 32

    @property
    def is_warp(self) -> bool:
        """Whether there is more than flips and turns, which only copy pixels."""
        return self.bend is not None or self.linear != SAME or any(self.shift)

    def move(
        self, image: NDArray[Any], mask: NDArray[np.uint8], then: Sequence[Change] = ()
    ) -> tuple[NDArray[Any], NDArray[np.uint8]]:
        """Move an image and its mask; both results have memory of their own.

        Each value is interpolated once, bilinear; each label is that of the nearest pixel. In float32 that takes half
        the time of int16.

        Args:
            image: (C, D, H, W) of any type; uint8 stays, all else becomes float32.
            mask: (D, H, W).
            then: what else is done to each stack of planes of the image.
        """
        image = image if image.dtype == np.uint8 else image.astype(np.float32)
        if not self.is_warp:
            return changed(self._turned(image), then), self._turned(mask).copy()
        if self.flips[0]:
            image, mask = image[:, ::-1], mask[::-1]
        if image.dtype != np.uint8:
            labels = changed(mask[None], [partial(self._warped, how=cv2.INTER_NEAREST)])[0]
            return changed(image, [partial(self._warped, how=cv2.INTER_LINEAR), *then]), labels
        moved, labels = self._warped_bytes(image, mask)
        return changed(moved, then) if then else moved, labels

    def _turned(self, array: NDArray[Any]) -> NDArray[Any]:
        axes = tuple(axis for axis, is_reversed in zip((-3, -2, -1), self.flips, strict=True) if is_reversed)
        return np.rot90(np.flip(array, axes), self.turns, (-2, -1))

    def _warped_bytes(
        self, image: NDArray[np.uint8], mask: NDArray[np.uint8]
    ) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        from seglab.data.augmentation.warp import warp  # numba takes a moment to import

        places = {} if self.bend is None else {"places": self.places}
        moved, labels = warp(image.reshape(-1, *self.size), mask, self.margins, self.matrix, **places)
        return moved.reshape(image.shape), labels

    def _warped(self, stack: NDArray[Any], how: int) -> NDArray[Any]:
        """Move the planes of a stack; borders are laid out before, as OpenCV is slow in mixing mirrored pixels."""
        above, below, left, right = self.margins
        moved: NDArray[Any]
        if self.bend is not None:
            across, down = self.places
            stack = cv2.copyMakeBorder(stack, above, below, left, right, BORDER)
            moved = cv2.remap(stack, across, down, how, borderMode=BORDER)
            return moved
        (a, b, x), (c, d, y) = self.matrix
        if how != cv2.INTER_NEAREST:
            stack, x, y = cv2.copyMakeBorder(stack, above, below, left, right, BORDER), x + left, y + above
        matrix, flags = np.array([[a, b, x], [c, d, y]]), how | cv2.WARP_INVERSE_MAP
        moved = cv2.warpAffine(stack, matrix, self.size[::-1], flags=flags, borderMode=BORDER)
        return moved

    @cached_property
    def matrix(self) -> tuple[tuple[float, float, float], tuple[float, float, float]]:
        """Input pixel of each output pixel without the elastic part: 2x3, on (x, y, 1)."""
        (a, b), (c, d) = self.linear
        cos, sin = TURNS[self.turns]
        a, b, c, d = cos * a - sin * c, cos * b - sin * d, sin * a + cos * c, sin * b + cos * d
        if self.flips[2]:
            a, b = -a, -b
        if self.flips[1]:
            c, d = -c, -d
        y, x = ((length - 1) / 2 for length in self.size)
        return (a, b, x + self.shift[0] - a * x - b * y), (c, d, y + self.shift[1] - c * x - d * y)

    @cached_property
    def controls(self) -> NDArray[np.float64]:
        """Input pixel of each control point of the elastic part: (2, rows, columns), x and y."""
        rows, columns = (n_controls(length, self.step) for length in self.size)
        x, y = np.meshgrid(*(self.step * (np.arange(n) - 1.0) for n in (columns, rows)))
        x, y = (x, y) if self.bend is None else (x + self.bend[0], y + self.bend[1])
        places = np.stack([a * x + b * y + c for a, b, c in self.matrix])
        return np.round(places * PLACE_STEPS) / PLACE_STEPS

    @cached_property
    def margins(self) -> tuple[int, int, int, int]:
        """Pixels beyond the input that are needed above, below, left and right; splines stay within their controls."""
        height, width = self.size
        if self.bend is None:
            (a, b, x), (c, d, y) = self.matrix
            left, right = _ends(a * (width - 1), b * (height - 1), x)
            above, below = _ends(c * (width - 1), d * (height - 1), y)
        else:
            (left, above), (right, below) = self.controls.min((1, 2)), self.controls.max((1, 2))
        return _beyond(-above), _beyond(below - height + 1), _beyond(-left), _beyond(right - width + 1)

    @cached_property
    def places(self) -> NDArray[np.float32]:
        """Pixel of each output pixel in the input with its margins: (2, H, W), x and y.

        Splines keep straight lines, so the affine part is within their control points, and all is one product.
        """
        above, _, left, _ = self.margins
        rows, columns = (spline_weights(length, self.step) for length in self.size)
        halfway = rows @ (self.controls + np.array([left, above])[:, None, None])  # (2, H, columns of control points)
        places = np.empty((2, *self.size), np.float32)
        for first in range(0, self.size[0], ROWS_AT_ONCE):
            some = slice(first, first + ROWS_AT_ONCE)
            places[:, some] = halfway[:, some] @ columns.T
        return places


def _beyond(pixels: float) -> int:
    """Width of a margin."""
    return max(0, math.ceil(pixels) + 1)


def _ends(across: float, down: float, start: float) -> tuple[float, float]:
    """Least and largest of what the corners of a plane become along one axis."""
    return start + min(across, 0.0) + min(down, 0.0), start + max(across, 0.0) + max(down, 0.0)


def linear_map(*, angle: float, zoom: float, shear: float) -> Linear:
    """Offsets in the input of offsets in an output that is rotated, enlarged and sheared.

    Args:
        angle: radians.
        zoom: above 1 enlarges.
        shear: radians by which the vertical leans.
    """
    cos, sin, lean = math.cos(angle) / zoom, math.sin(angle) / zoom, math.tan(shear)
    return (cos, cos * lean - sin), (sin, sin * lean + cos)


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
