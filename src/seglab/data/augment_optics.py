"""What optics, scanner and sensor do to an image: loss of resolution, blur, noise; and boxes that hide a part of it."""

import math
from functools import lru_cache
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from seglab.data.augment_stacks import BORDER

POOL = 1 << 20
"""Numbers of the shared noise."""

CHUNK = 1 << 18
"""Numbers that are taken from the pool in one piece."""


def blur(stack: NDArray[Any], sigma: float) -> NDArray[Any]:
    """Gaussian blur of the planes, cut off at 2.5 sigma: (H, W[, n]) -> the same."""
    size = 2 * math.ceil(2.5 * sigma) + 1
    blurred: NDArray[Any] = cv2.GaussianBlur(stack, (size, size), sigma, borderType=BORDER)
    return blurred


def coarsen(stack: NDArray[Any], factor: float) -> NDArray[Any]:
    """Lose resolution: planes are shrunk by `factor` to the means of areas and enlarged again by cubic curves.

    Shape:
        (H, W[, n]) -> the same.
    """
    height, width = stack.shape[:2]
    size = max(1, round(width / factor)), max(1, round(height / factor))
    small = cv2.resize(stack, size, interpolation=cv2.INTER_AREA)
    coarse: NDArray[Any] = cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC)
    return coarse


def add_noise(values: NDArray[np.float32], sigma: float, rng: np.random.Generator, *, from_pool: bool) -> None:
    """Add Gaussian noise in place.

    Args:
        values: contiguous, of any shape.
        sigma: standard deviation.
        rng: draws the noise, or its places in the pool and its signs.
        from_pool: take it from the pool. Two samples may then share some of their noise.
    """
    flat = values.reshape(-1)
    for start in range(0, flat.size, CHUNK):
        part = flat[start : start + CHUNK]
        if from_pool:
            place = int(rng.integers(POOL - CHUNK + 1))
            noise, scale = noise_pool()[place : place + part.size], sigma * (1 if rng.random() < 0.5 else -1)
        else:
            noise, scale = rng.standard_normal(part.size, dtype=np.float32), sigma
        cv2.scaleAdd(noise, scale, part, dst=part)


@lru_cache(maxsize=1)
def noise_pool() -> NDArray[np.float32]:
    """`POOL` normal numbers, the same in every process."""
    return np.random.default_rng(0).standard_normal(POOL, dtype=np.float32)


def cut_out(values: NDArray[np.float32], n_boxes: int, size: float, rng: np.random.Generator, *, is_deep: bool) -> None:
    """Set boxes to 0, the mean of normalised data, in place.

    Args:
        values: (C, D, H, W).
        n_boxes: number of boxes; they may overlap.
        size: largest side as a share of that axis.
        rng: draws places and sides.
        is_deep: boxes end along D too, else they go through.
    """
    for _ in range(n_boxes):
        lengths = values.shape[1:] if is_deep else values.shape[2:]
        sides = [max(1, round(length * size * rng.random())) for length in lengths]
        starts = [int(rng.integers(length - side + 1)) for length, side in zip(lengths, sides, strict=True)]
        box: Any = tuple(slice(start, start + side) for start, side in zip(starts, sides, strict=True))
        values[(..., *box)] = 0.0
