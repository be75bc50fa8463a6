"""8-bit planes are blurred, become values by a table and get their noise in one compiled pass, row by row in the cache.

A Gaussian blur goes down the columns in integers and along the row in float32. Both are exact, as weights are shares of
`SHARES`: only the result is rounded, to whole levels, halves upwards. OpenCV does the same and rounds halves to even.
"""

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from seglab.data.augmentation.optics import CHUNK, SHARES, SILENCE, Noise, gaussian
from seglab.data.augmentation.warp import Bytes, Floats, mirrored
from seglab.data.compiled import compiled

Shares = NDArray[np.uint16]

N_LEVELS = 256
N_NEAR = 3
"""Weights of which one expression takes care, from the middle on: more are needed above 1 pixel only."""

STEPS = 100
"""Of a blur per pixel: the table of its weights is kept for each."""

HALF, UNIT = np.float32(0.5), np.float32(1 / SHARES**2)
SHARP = np.empty(0, np.uint16)


def develop(planes: Bytes, table: Floats, blur_px: float = 0.0, noise: Noise = SILENCE) -> Floats:
    """Blur planes, look up their levels and add noise; borders are mirrored.

    Args:
        planes: (C, D, H, W) contiguous.
        table: what becomes of each level, (C, 256) contiguous.
        blur_px: standard deviation of the blur, pixels; 0 for none.
        noise: of as many values.

    Returns:
        (C, D, H, W).
    """
    values = np.empty(planes.shape, np.float32)
    weights = half_of_blur(max(1, round(blur_px * STEPS))) if blur_px else SHARP
    drawn = noise.numbers, noise.places, noise.scales
    _develop(planes.reshape(-1), planes.shape, table.reshape(-1), weights, *drawn, values.reshape(-1))
    return values


@lru_cache(maxsize=256)
def half_of_blur(steps: int) -> Shares:
    """Weights of a blur from the middle to one end, in shares; `N_NEAR` at least."""
    weights = gaussian(steps / STEPS)
    half = (weights[len(weights) // 2 :] * SHARES).astype(np.uint16)
    return np.pad(half, (0, max(0, N_NEAR - len(half))))


@compiled
def _develop(
    planes: Bytes,
    shape: tuple[int, int, int, int],
    table: Floats,
    weights: Shares,
    noise: Floats,
    noise_places: NDArray[np.int64],
    noise_scales: Floats,
    values: Floats,
) -> None:
    """Fill values; all arrays are flat. With unsigned offsets and lengths loops become vector instructions."""
    channels, depth, height, width = shape
    reach, n = max(len(weights) - 1, 0), np.uint64(width)
    sums, levels = np.empty(width, np.uint16), np.empty(width, np.int32)
    row, totals = np.empty(width + 2 * reach, np.float32), np.empty(width, np.float32)
    for plane in range(channels * depth):
        first, entries = plane * height * width, np.uint64(plane // depth * N_LEVELS)
        for y in range(height):
            start = first + y * width
            if reach:
                _blur_down(planes, first, y, height, width, weights, sums)
                _blur_along(sums, weights, row, totals, levels)
            else:
                source = np.uint64(start)
                for x in range(n):
                    levels[x] = planes[source + x]
            for x in range(n):
                totals[x] = table[entries + np.uint64(levels[x])]
            if len(noise_places):
                _put_with_noise(totals, noise, noise_places, noise_scales, values, start)
            else:
                target = np.uint64(start)
                for x in range(n):
                    values[target + x] = totals[x]


@compiled
def _blur_down(
    planes: Bytes, first: int, y: int, height: int, width: int, weights: Shares, sums: NDArray[np.uint16]
) -> None:
    """Weigh row y of the plane that starts at `first` with those above and below: 255 times `SHARES` at most."""
    n, at = np.uint64(width), np.uint64(first + y * width)
    for x in range(n):
        sums[x] = np.uint16(planes[at + x]) * weights[0]
    for k in range(1, len(weights)):
        above = np.uint64(first + mirrored(y - k, height) * width)
        below = np.uint64(first + mirrored(y + k, height) * width)
        weight = weights[k]
        for x in range(n):
            pair = np.uint16(np.uint16(planes[above + x]) + np.uint16(planes[below + x]))
            sums[x] = np.uint16(sums[x] + np.uint16(pair * weight))


@compiled
def _blur_along(
    sums: NDArray[np.uint16], weights: Shares, row: Floats, totals: Floats, levels: NDArray[np.int32]
) -> None:
    """Weigh each of the sums with its neighbours, and round."""
    reach, width = len(weights) - 1, len(sums)
    middle, n = np.uint64(reach), np.uint64(width)
    for x in range(n):
        row[middle + x] = sums[x]
    for k in range(reach):
        row[reach - 1 - k] = sums[mirrored(-1 - k, width)]
        row[reach + width + k] = sums[mirrored(width + k, width)]
    for x in range(n):
        totals[x] = HALF
    for k in range(N_NEAR, reach + 1):
        left, right = np.uint64(mirrored(reach - k, len(row))), np.uint64(mirrored(reach + k, len(row)))
        weight = np.float32(weights[k]) * UNIT
        for x in range(n):
            totals[x] += (row[left + x] + row[right + x]) * weight
    left, right = np.uint64(reach - 1), np.uint64(reach + 1)
    far_left, far_right = np.uint64(reach - 2), np.uint64(reach + 2)
    own, near, far = np.float32(weights[0]) * UNIT, np.float32(weights[1]) * UNIT, np.float32(weights[2]) * UNIT
    for x in range(n):
        two, others = row[left + x] + row[right + x], row[far_left + x] + row[far_right + x]
        levels[x] = np.int32(totals[x] + row[middle + x] * own + two * near + others * far)


@compiled
def _put_with_noise(
    row: Floats,
    noise: Floats,
    noise_places: NDArray[np.int64],
    noise_scales: Floats,
    values: Floats,
    start: int,
) -> None:
    """Write a row to where it starts among the values; noise comes in pieces of `CHUNK`, and may change within it."""
    done = 0
    while done < len(row):
        chunk, inside = divmod(start + done, CHUNK)
        length = min(len(row) - done, CHUNK - inside)
        scale, place = noise_scales[chunk], np.uint64(noise_places[chunk] + inside)
        source, target = np.uint64(done), np.uint64(start + done)
        for x in range(np.uint64(length)):
            values[target + x] = row[source + x] + scale * noise[place + x]
        done += length
