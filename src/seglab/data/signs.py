"""Signs: 63 bits of a picture that a re-encoded, resized, mirrored or turned copy keeps but for a few.

Source: the perceptual hash by cosine transform (Zauner 2010), with the signs of coefficients in place of the comparison
with their median, so that the signs of a mirrored picture follow from its own.
"""

from collections.abc import Iterator
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

SIDE, LOW = 64, 8
N_BITS = LOW * LOW - 1
"""Signs of the lowest frequencies, the mean left out."""

MIN_RANGE = 1e-6


def signs(image: NDArray[Any]) -> NDArray[np.int8]:
    """Signs of each slice.

    Args:
        image: (C, D, H, W).

    Returns:
        (D, 63) of -1 and 1; 0 for a slice without content.
    """
    return np.stack([_signs(plane) for plane in planes(image)])


def planes(image: NDArray[Any]) -> Iterator[NDArray[np.float32]]:
    """Slices of (C, D, H, W) as grey values, (H, W)."""
    for number in range(image.shape[1]):
        grey: NDArray[np.float32] = np.asarray(image[:, number]).mean(axis=0, dtype=np.float32)
        yield grey


def _signs(plane: NDArray[np.float32]) -> NDArray[np.int8]:
    small = cv2.resize(plane, (SIDE, SIDE), interpolation=cv2.INTER_AREA).astype(np.float32)
    if float(np.ptp(small)) < MIN_RANGE:
        return np.zeros(N_BITS, np.int8)
    low = cv2.dct(small)[:LOW, :LOW].ravel()[1:]
    return np.where(low > 0, 1, -1).astype(np.int8)
