"""Intensity: measured on the training cases, applied alike in training, test and prediction."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from seglab.spec import Intensity


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
    values = [_clip(channel[valid].astype(np.float64), low, high) for channel in image]
    total = tuple(float(channel.sum()) for channel in values)
    return Moments(int(valid.sum()), total, tuple(float(np.square(channel).sum()) for channel in values))


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
    """Turn stored values into network input.

    Shape:
        (C, D, H, W) of any number type -> (C, D, H, W) float32.
    """
    values: Tensor = _clip(
        torch.from_numpy(np.ascontiguousarray(image).astype(np.float32)), intensity.low, intensity.high
    )
    return (values - _column(intensity.mean)) / _column(intensity.std)


def denormalise(image: Tensor, intensity: Intensity, n_channels: int) -> Tensor:
    """Back to stored values, for pictures; `n_channels` leading channels of the input are used."""
    return image[:n_channels] * _column(intensity.std)[:n_channels, 0] + _column(intensity.mean)[:n_channels, 0]


def _clip(values: Any, low: float | None, high: float | None) -> Any:
    return values if low is None and high is None else values.clip(low, high)


def _column(values: Sequence[float]) -> Tensor:
    return torch.tensor(values, dtype=torch.float32)[:, None, None, None]
