"""From stored to normalised values on the way through a drawn change of brightness, contrast, gamma and colour."""

import math
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from seglab.data.intensity import normalise
from seglab.spec import Intensity

N_LEVELS = 256
SPREAD = 3.0
"""Standard deviations about the mean that gamma bends where values have no range of their own."""


@dataclass(frozen=True, kw_only=True)
class Shade:
    """One drawn change of values; without arguments it normalises and no more.

    Args:
        hu: added to what lies within the HU window.
        gains: factor of each channel.
        gamma: exponent.
        contrast: factor about the mean of the data.
        brightness: shift in standard deviations.
    """

    hu: float = 0.0
    gains: NDArray[np.float64] | None = None
    gamma: float = 1.0
    contrast: float = 1.0
    brightness: float = 0.0

    def __call__(self, image: NDArray[Any], intensity: Intensity) -> NDArray[np.float32]:
        """Change and normalise: (C, D, H, W) stored values -> the same sizes, float32, memory of its own.

        8-bit images go through a table of 256 entries per channel, which is this same function of all levels; they
        stay between black and white, as in a camera.
        """
        if image.dtype != np.uint8:
            return self._changed(image, intensity, *_range(intensity))
        levels = np.broadcast_to(np.arange(N_LEVELS, dtype=np.uint8), (len(image), 1, 1, N_LEVELS))
        table = self._changed(levels, intensity, *np.full((2, len(image)), [[0.0], [N_LEVELS - 1.0]]))
        _saturate(table, intensity)
        values = np.empty(image.shape, np.float32)
        for channel, entries, target in zip(image, table, values, strict=True):
            flat = (-1, image.shape[-1])
            cv2.LUT(channel.reshape(flat), entries, dst=target.reshape(flat))
        return values

    def _changed(
        self, image: NDArray[Any], intensity: Intensity, low: NDArray[np.float64], high: NDArray[np.float64]
    ) -> NDArray[np.float32]:
        if self.hu or self.gains is not None or self.gamma != 1:
            image = image.astype(np.float32)
        if self.hu:
            _shift_within(image, self.hu, intensity)
        if self.gains is not None:
            image *= _column(self.gains)
        if self.gamma != 1:
            for channel, bottom, top in zip(image, low, high, strict=True):
                _bend(channel, float(bottom), float(top), self.gamma)
        values: NDArray[np.float32] = normalise(image, intensity).numpy()
        if self.contrast != 1 or self.brightness:
            values *= np.float32(self.contrast)
            values += np.float32(self.brightness)
        return values


def color_matrix(saturation: float, hue: float) -> NDArray[np.float64]:
    """Mixes red, green and blue: 3x3, grey stays as it is and so does the mean of the three.

    Args:
        saturation: factor of the distance from grey.
        hue: radians of a turn about the grey axis.
    """
    grey = np.full((3, 3), 1 / 3)
    cross = np.array([[0, -1, 1], [1, 0, -1], [-1, 1, 0]]) / math.sqrt(3)
    turned = math.cos(hue) * (np.eye(3) - grey) + math.sin(hue) * cross  # of Rodrigues, on the plane of colours
    mixed: NDArray[np.float64] = grey + saturation * turned
    return mixed


def recolor(values: NDArray[np.float32], matrix: NDArray[np.float64], intensity: Intensity) -> None:
    """Mix the channels of a normalised 8-bit photo in place, as `matrix` mixes stored ones.

    Args:
        values: (3, D, H, W).
        matrix: 3x3.
        intensity: that the photo was normalised by.
    """
    mean, std = np.array(intensity.mean), np.array(intensity.std)
    mixed, offsets = matrix * std / std[:, None], (matrix @ mean - mean) / std
    red, green, blue = (channel.reshape(-1, channel.shape[-1]).copy() for channel in values)
    for target, row, offset in zip(values, mixed, offsets, strict=True):
        two = cv2.addWeighted(red, row[0], green, row[1], offset)
        cv2.scaleAdd(blue, row[2], two, dst=target.reshape(two.shape))
    _saturate(values, intensity)


def _range(intensity: Intensity) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Lower and upper end of the values of each channel."""
    mean, reach = np.array(intensity.mean), SPREAD * np.array(intensity.std)
    low = mean - reach if intensity.low is None else np.full_like(mean, intensity.low)
    high = mean + reach if intensity.high is None else np.full_like(mean, intensity.high)
    return low, high


def _shift_within(image: NDArray[np.float32], shift: float, intensity: Intensity) -> None:
    """Add to what lies within the window, in place; stores may keep no more of the rest than that it lies beyond."""
    low, high = np.float32(intensity.low), np.float32(intensity.high)
    is_within = (image > low) & (image < high)
    np.add(image, np.float32(shift), out=image, where=is_within)


def _bend(channel: NDArray[np.float32], low: float, high: float, gamma: float) -> None:
    """Apply gamma between low and high, in place; beyond them nothing changes."""
    share = np.clip((channel - np.float32(low)) / np.float32(high - low), 0, 1)
    bent = cv2.pow(share.reshape(-1, share.shape[-1]), gamma).reshape(share.shape)
    channel += (bent - share) * np.float32(high - low)


def _saturate(values: NDArray[np.float32], intensity: Intensity) -> None:
    """Keep normalised 8-bit values between black and white, in place."""
    ends = np.broadcast_to(np.array([0, N_LEVELS - 1], np.uint8), (len(values), 1, 1, 2))
    black, white = np.split(normalise(ends, intensity).numpy(), 2, axis=-1)
    np.clip(values, black, white, out=values)


def _column(values: NDArray[np.float64]) -> NDArray[np.float32]:
    return values.astype(np.float32)[:, None, None, None]
