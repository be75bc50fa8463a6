"""What optics, scanner and sensor do to an image: loss of resolution, blur, noise; and boxes that hide a part of it."""

import math
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate, pairwise
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from seglab.data.augmentation.stacks import BORDER

POOL = 1 << 18
"""Numbers of the shared noise: 1 MiB, which stays in the cache of a core beside a photo."""

CHUNK = 1 << 16
"""Numbers that are taken from the pool, or drawn, in one piece."""

N_PLACES = 2 * (POOL - CHUNK + 1)
"""In the pool, each with either sign."""

QUANTILES = 1 << 16
"""Values of noise that is drawn anew: as many as 16 random bits can choose from."""

SHARES = 256
"""Weights of a blur are multiples of one over this, as OpenCV would round them for 8 bits; they are so with sum 1."""


def blur(stack: NDArray[Any], sigma: float) -> NDArray[Any]:
    """Gaussian blur of the planes, cut off at 2.5 sigma: (H, W[, n]) -> the same."""
    weights = gaussian(sigma)
    blurred: NDArray[Any] = cv2.sepFilter2D(stack, -1, weights, weights, borderType=BORDER)
    return blurred


def gaussian(sigma: float) -> NDArray[np.float32]:
    """Weights of a blur, symmetrical, with sum 1 and none at the ends that is 0.

    Rounded are the sums from the end of a side, not the weights: no weight is off by more than one of `SHARES`, and
    even areas stay as they are.
    """
    heights = [math.exp(-((n / sigma) ** 2) / 2) for n in range(math.ceil(2.5 * sigma), 0, -1)]
    scale = SHARES / (1 + 2 * sum(heights))
    ends = [0, *(round(scale * total) for total in accumulate(heights))]
    side = [end - before for before, end in pairwise(ends) if end]
    weights = [*side, SHARES - 2 * ends[-1], *reversed(side)]
    return np.array([weight / SHARES for weight in weights], np.float32)


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


@dataclass(frozen=True)
class Noise:
    """Drawn Gaussian noise of a sample, `CHUNK` values after another.

    Args:
        numbers: normal numbers.
        places: where those of each chunk begin, int64.
        scales: standard deviation of each chunk, with either sign, float32.
    """

    numbers: NDArray[np.float32]
    places: NDArray[np.int64]
    scales: NDArray[np.float32]

    def add_to(self, values: NDArray[np.float32]) -> None:
        """Add it in place to contiguous values of any shape."""
        flat = values.reshape(-1)
        for index, (place, scale) in enumerate(zip(self.places, self.scales, strict=True)):
            part = flat[index * CHUNK : (index + 1) * CHUNK]
            cv2.scaleAdd(self.numbers[place : place + part.size], float(scale), part, dst=part)


SILENCE = Noise(np.empty(0, np.float32), np.empty(0, np.int64), np.empty(0, np.float32))


def draw_noise(size: int, sigma: float, rng: np.random.Generator, *, from_pool: bool) -> Noise:
    """Draw Gaussian noise.

    Args:
        size: number of values.
        sigma: standard deviation.
        rng: draws the noise, or its places in the pool and its signs.
        from_pool: take it from the pool. Two samples may then share some of their noise.
    """
    starts = range(0, size, CHUNK)
    if not from_pool:
        return Noise(fresh_noise(size, rng), np.array(starts), np.full(len(starts), sigma, np.float32))
    drawn = [divmod(int(rng.random() * N_PLACES), 2) for _ in starts]
    places, signs = zip(*drawn, strict=True)
    scales = [-sigma if is_negative else sigma for is_negative in signs]
    return Noise(noise_pool(), np.array(places), np.array(scales, np.float32))


def fresh_noise(size: int, rng: np.random.Generator) -> NDArray[np.float32]:
    """Normal numbers, each one of `QUANTILES` that are equally likely; none lies beyond 4.33.

    That takes a sixth of the time of `Generator.standard_normal`, which computes them.
    """
    bits = rng.integers(0, 1 << 64, -(-size // 4), dtype=np.uint64).view(np.uint16)[:size]
    return normal_quantiles().take(bits, mode="clip")


@lru_cache(maxsize=1)
def normal_quantiles() -> NDArray[np.float32]:
    """The middles of `QUANTILES` equally likely ranges of the normal distribution."""
    shares = (torch.arange(QUANTILES, dtype=torch.float64) + 0.5) / QUANTILES
    quantiles: NDArray[np.float32] = torch.special.ndtri(shares).float().numpy()
    return quantiles


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
