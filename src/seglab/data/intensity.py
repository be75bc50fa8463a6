"""Intensity: measured on the training cases, applied alike in training, test and prediction."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from seglab.data.arrays import Stored, read_box, read_scaled
from seglab.data.packed import NO_LIMITS, unchanged
from seglab.spec import Intensity

BLOCK = 1 << 22
PIECE = 1 << 18
"""Values that are normalised at once: 1 MiB."""


@dataclass(frozen=True)
class Moments:
    """Sums over the valid pixels of a case, per channel, after clipping.

    Args:
        n: number of valid pixels.
        total: sum of the values.
        squares: sum of the squared values.
    """

    n: int
    total: tuple[float, ...]
    squares: tuple[float, ...]


def measure(image: NDArray[Any], valid: NDArray[np.bool_], low: float | None, high: float | None) -> Moments:
    """Sum up one case.

    Args:
        image: (C, D, H, W), stored values.
        valid: (D, H, W), False for nodata.
        low: lower clip value or None.
        high: upper clip value or None.
    """
    sums = [_sums(channel[valid], low, high) for channel in image]
    return Moments(int(valid.sum()), tuple(total for total, _ in sums), tuple(squares for _, squares in sums))


def combine(moments: Iterable[Moments], *, low: float | None, high: float | None) -> Intensity:
    """Mean and standard deviation per channel over many cases; a constant channel gets std 1."""
    cases = list(moments)
    n = max(sum(case.n for case in cases), 1)
    mean = np.sum([case.total for case in cases], axis=0) / n
    variance = np.sum([case.squares for case in cases], axis=0) / n - mean**2
    std = np.sqrt(np.maximum(variance, 0))
    std[std < 1e-6 * np.maximum(np.abs(mean), 1e-6)] = 1.0
    return Intensity(tuple(map(float, mean)), tuple(map(float, std)), low, high)


def normalise(image: NDArray[Any], intensity: Intensity) -> Tensor:
    """Turn stored values into network input: piece by piece to float32, then one multiplication with addition.

    Pieces stay in the cache of the core until they are done.

    Shape:
        (C, D, H, W) of any number type -> (C, D, H, W) float32.
    """
    image = np.asarray(image)
    values = np.empty(image.shape, np.float32)
    for channel, target, (scale, shift) in zip(image, values, _lines(intensity), strict=True):
        for some in _pieces(channel.shape):
            target[some] = channel[some]
            piece = torch.from_numpy(target[some])
            if intensity.low is not None or intensity.high is not None:
                piece.clamp_(intensity.low, intensity.high)
            torch.add(shift, piece, alpha=scale, out=piece)
    return torch.from_numpy(values)


def read_normalised(
    array: Stored, start: Sequence[int], stop: Sequence[int], intensity: Intensity
) -> NDArray[np.float32]:
    """A box of a stored image as network input, as `normalise` makes it; most volumes need one go for it.

    Bit for bit the same where the processor multiplies and adds with one rounding (AVX2), else up to a rounding.

    Args:
        array: (C, D, H, W), from `seglab.data.arrays.open_array`.
        start: first index along (D, H, W).
        stop: end along them.
        intensity: of the training data.
    """
    low = NO_LIMITS[0] if intensity.low is None else intensity.low
    high = NO_LIMITS[1] if intensity.high is None else intensity.high
    values = read_scaled(array, start, stop, _line_table(intensity), (low, high))
    return normalise(read_box(array, start, stop), intensity).numpy() if values is None else values


def read_values(array: Stored, start: Sequence[int], stop: Sequence[int]) -> NDArray[Any]:
    """A box of a stored image as it is for changing: float32 where that comes at no cost, else as it is stored."""
    values = read_scaled(array, start, stop, unchanged(array.shape[0]))
    return read_box(array, start, stop) if values is None else values


def normalise_windows(windows: Tensor, intensity: Intensity, device: torch.device) -> Tensor:
    """Turn windows of stored values into network input, with the same arithmetic as `normalise`.

    Args:
        windows: (B, C, *window) of any number type; where slices are stacked C is a multiple of the image's channels.
        intensity: of the training data.
        device: where the result lies.

    Returns:
        (B, C, *window) float32.
    """
    values = windows.to(device, torch.float32, copy=True)
    if intensity.low is not None or intensity.high is not None:
        values.clamp_(intensity.low, intensity.high)
    lines = _lines(intensity)
    for index in range(values.shape[1]):
        scale, shift = lines[index % len(lines)]
        channel = values[:, index]
        torch.add(shift.to(device), channel, alpha=scale, out=channel)
    return values


def _sums(values: NDArray[Any], low: float | None, high: float | None) -> tuple[float, float]:
    """Sum and sum of squares, in blocks: a CT as float64 would take gigabytes."""
    total = squares = 0.0
    for start in range(0, len(values), BLOCK):
        block = values[start : start + BLOCK].astype(np.float64)
        if low is not None or high is not None:
            block = np.clip(block, low, high)
        total, squares = total + float(block.sum()), squares + float(np.square(block).sum())
    return total, squares


def _pieces(shape: tuple[int, ...]) -> Iterator[tuple[int | slice, ...]]:
    """Some slices of (D, H, W) at once, or of a single slice some rows."""
    depth, height, width = shape
    n_rows = max(1, PIECE // max(width, 1))
    if depth == 1:
        yield from ((0, slice(first, first + n_rows)) for first in range(0, height, n_rows))
        return
    n_slices = max(1, n_rows // max(height, 1))
    yield from ((slice(first, first + n_slices),) for first in range(0, depth, n_slices))


@lru_cache
def _line_table(intensity: Intensity) -> NDArray[np.float32]:
    """The same as `_lines`: (C, 2)."""
    return np.array([(scale, shift.item()) for scale, shift in _lines(intensity)], np.float32)


@lru_cache
def _lines(intensity: Intensity) -> tuple[tuple[float, Tensor], ...]:
    """Factor and summand of each channel; the division is one of Python's doubles."""
    pairs = zip(intensity.mean, intensity.std, strict=True)
    return tuple((1 / std, torch.tensor(-mean / std, dtype=torch.float32)) for mean, std in pairs)
