"""From stored to normalised values on the way through a drawn change of brightness, contrast, gamma and colour."""

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from seglab.data.intensity import normalise
from seglab.spec import Intensity

WHITE = 255.0
LEVELS = np.arange(256, dtype=np.float32).reshape(1, 1, 1, 256)
"""Of 8 bits."""

SHARES_OF_WHITE = np.arange(256) / WHITE
SPREAD = 3.0
"""Standard deviations about the mean that gamma bends where values have no range of their own."""


Bound = NDArray[np.float32] | float
"""Of all channels, or (C, 1, 1, 1)."""


@dataclass(frozen=True, kw_only=True)
class Shade:
    """One drawn change of values; without arguments it normalises and no more.

    Args:
        hu: added to what lies within the HU window.
        gains: factor of each channel; empty for none.
        gamma: exponent.
        contrast: factor about the mean of the data.
        brightness: shift in standard deviations.
    """

    hu: float = 0.0
    gains: tuple[float, ...] = ()
    gamma: float = 1.0
    contrast: float = 1.0
    brightness: float = 0.0

    def __call__(self, image: NDArray[Any], intensity: Intensity) -> NDArray[np.float32]:
        """Change and normalise: (C, D, H, W) stored values -> the same sizes, float32, memory of its own."""
        if self == PLAIN:
            return normalise(image, intensity).numpy()
        values = normalise(self._bent(image, intensity, *_range(intensity)), intensity).numpy()
        return self._lit(values)

    def table(self, intensity: Intensity) -> NDArray[np.float32]:
        """What becomes of the levels of 8 bits: (C, 256); they stay between black and white, as in a camera."""
        if self == PLAIN:
            return _plain_table(intensity)
        span, black, white = _columns(intensity)
        levels: NDArray[Any] = SHARES_OF_WHITE**self.gamma
        if self.hu or self.gains:
            levels = self._bent(LEVELS, intensity, 0.0, WHITE).reshape(-1, LEVELS.size) / WHITE
        table: NDArray[np.float64] = (self.contrast * span) * levels
        table += self.contrast * black + self.brightness
        np.maximum(table, black, out=table)
        np.minimum(table, white, out=table)
        return table.astype(np.float32)

    def _bent(self, image: NDArray[Any], intensity: Intensity, low: Bound, high: Bound) -> NDArray[Any]:
        """What is done to stored values."""
        if self.hu or self.gains or self.gamma != 1:
            image = image.astype(np.float32)
        if self.hu:
            _shift_within(image, self.hu, intensity)
        if self.gains:
            image = image * np.array(self.gains, np.float32)[:, None, None, None]
        if self.gamma != 1:
            _bend(image, low, high, self.gamma)
        return image

    def _lit(self, values: NDArray[Any]) -> NDArray[Any]:
        """What is done to normalised values, in place."""
        if self.contrast != 1 or self.brightness:
            values *= self.contrast
            values += self.brightness
        return values


PLAIN = Shade()


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
    for channel, black, white in zip(values, -mean / std, (WHITE - mean) / std, strict=True):
        np.clip(channel, black, white, out=channel)


@lru_cache
def _plain_table(intensity: Intensity) -> NDArray[np.float32]:
    """The levels of 8 bits, normalised: (C, 256)."""
    return normalise(LEVELS.repeat(len(intensity.mean), axis=0), intensity).reshape(-1, LEVELS.size).numpy()


@lru_cache
def _columns(intensity: Intensity) -> tuple[NDArray[np.float64], ...]:
    """How far white lies from black in standard deviations, and what the two become: (C, 1) each."""
    mean, std = np.array([intensity.mean, intensity.std])[:, :, None]
    return WHITE / std, -mean / std, (WHITE - mean) / std


def _range(intensity: Intensity) -> tuple[Bound, Bound]:
    """Lower and upper end of the values of each channel."""
    mean, reach = np.array(intensity.mean), SPREAD * np.array(intensity.std)
    low = mean - reach if intensity.low is None else np.full_like(mean, intensity.low)
    high = mean + reach if intensity.high is None else np.full_like(mean, intensity.high)
    low, high = (ends.astype(np.float32)[:, None, None, None] for ends in (low, high))
    return low, high


def _shift_within(image: NDArray[np.float32], shift: float, intensity: Intensity) -> None:
    """Add to what lies within the window, in place; stores may keep no more of the rest than that it lies beyond."""
    low, high = np.float32(intensity.low), np.float32(intensity.high)
    is_within = (image > low) & (image < high)
    np.add(image, np.float32(shift), out=image, where=is_within)


def _bend(image: NDArray[np.float32], low: Bound, high: Bound, gamma: float) -> None:
    """Apply gamma between low and high, in place; beyond them nothing changes."""
    share = ((image - low) / (high - low)).clip(0, 1)
    bent = cv2.pow(share.reshape(-1, share.shape[-1]), gamma).reshape(share.shape)
    image += (bent - share) * (high - low)
