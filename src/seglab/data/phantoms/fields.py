"""Smooth random fields, the raw material of every phantom."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

FloatArray = NDArray[np.float32]
BoolArray = NDArray[np.bool_]

_FINE_SIGMA = 3.0  # cells of the coarse grid; wide enough that linear interpolation leaves no facets


def smooth_noise(rng: np.random.Generator, shape: Sequence[int], sigma: float | Sequence[float]) -> FloatArray:
    """Draw Gaussian noise that is smooth over about `sigma` pixels, with mean 0 and standard deviation 1.

    Wide noise is drawn on a coarse grid and interpolated, which is what makes a whole data set quick to write.

    Args:
        rng: source of randomness.
        shape: size of the field.
        sigma: width of the smoothing in pixels, one number or one per axis.

    Returns:
        Field of shape `shape`.
    """
    widths = np.broadcast_to(np.asarray(sigma, dtype=float), (len(shape),))
    steps = np.maximum(widths / _FINE_SIGMA, 1.0)
    coarse_shape = tuple(max(2, int(np.ceil(length / step))) for length, step in zip(shape, steps, strict=True))
    coarse = ndimage.gaussian_filter(rng.standard_normal(coarse_shape), list(widths / steps), mode="wrap")
    zoom = [length / coarse_length for length, coarse_length in zip(shape, coarse_shape, strict=True)]
    field = ndimage.zoom(coarse, zoom, order=1) if coarse_shape != tuple(shape) else coarse
    return np.asarray((field - field.mean()) / max(float(field.std()), 1e-6), dtype=np.float32)
