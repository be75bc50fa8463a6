"""Liver, its vessels and its tumours for the CT phantom."""

import numpy as np
from scipy import ndimage

from seglab.data.phantoms.fields import BoolArray, FloatArray, smooth_noise

_TUMOUR_RADIUS_MM = (4.0, 15.0)


def draw_liver(rng: np.random.Generator, place: FloatArray) -> BoolArray:
    """Draw a right lobe that fills the patient's right side and a flat left lobe that reaches across the middle.

    Args:
        rng: source of randomness.
        place: body coordinates (3, X, Y, Z), see `draw_patient`.

    Returns:
        True inside the liver, (X, Y, Z).
    """
    shift = rng.normal(0, 0.03, size=(3, 1, 1, 1)).astype(np.float32)
    size = rng.uniform(0.9, 1.08)
    right_lobe = _ellipsoid(place - shift, (0.42, 0.00, 0.50), (0.36 * size, 0.47 * size, 0.45))
    left_lobe = _ellipsoid(place - shift, (0.08, 0.28, 0.63), (0.38 * size, 0.19 * size, 0.25))
    lumps = 0.12 * smooth_noise(rng, place.shape[1:], (9, 9, 3))
    joined = -0.12 * np.logaddexp(-right_lobe / 0.12, -left_lobe / 0.12)  # a smooth minimum rounds the notch
    return np.asarray(joined + lumps < 1)


def draw_vessels(rng: np.random.Generator, shape: tuple[int, ...], spacing_mm: tuple[float, float, float]) -> BoolArray:
    """Draw thin tubes where two smooth fields vanish together.

    Args:
        rng: source of randomness.
        shape: (X, Y, Z).
        spacing_mm: voxel size along the same axes.

    Returns:
        True inside a vessel, (X, Y, Z).
    """
    sigma = [14.0 / max(spacing, 1.2) for spacing in spacing_mm]
    first, second = smooth_noise(rng, shape, sigma), smooth_noise(rng, shape, sigma)
    return np.asarray(np.hypot(first, second) < 0.2)


def draw_tumours(
    rng: np.random.Generator, liver: BoolArray, spacing_mm: tuple[float, float, float], n_tumours: int
) -> BoolArray:
    """Place lumpy balls of 4 to 15 mm radius, at least 2.5 pixels, with a voxel or more of liver around them.

    Args:
        rng: source of randomness.
        liver: True inside the liver, (X, Y, Z).
        spacing_mm: voxel size along the same axes.
        n_tumours: how many; they may touch.

    Returns:
        True inside a tumour, (X, Y, Z); never outside the liver.
    """
    tumour = np.zeros_like(liver)
    depth_mm = ndimage.distance_transform_edt(np.pad(liver, 1), sampling=spacing_mm)[1:-1, 1:-1, 1:-1]
    lumps = 1 + 0.12 * smooth_noise(rng, liver.shape, (3, 3, 1.5))
    for _ in range(n_tumours):
        smallest = max(_TUMOUR_RADIUS_MM[0], 2.5 * spacing_mm[0])
        radius = min(rng.uniform(smallest, _TUMOUR_RADIUS_MM[1]), 0.7 * float(depth_mm.max()))
        room = np.argwhere(depth_mm >= 1.2 * radius)
        centre = room[rng.integers(len(room))]
        offset_mm = (np.indices(liver.shape) - centre.reshape(3, 1, 1, 1)) * np.reshape(spacing_mm, (3, 1, 1, 1))
        tumour |= np.sqrt((offset_mm**2).sum(axis=0)) < radius * lumps
    inner = ndimage.binary_erosion(liver)
    return np.asarray(tumour & inner)


def _ellipsoid(place: FloatArray, centre: tuple[float, float, float], radii: tuple[float, float, float]) -> FloatArray:
    scaled = (place - np.reshape(centre, (3, 1, 1, 1))) / np.reshape(radii, (3, 1, 1, 1))
    return np.asarray((scaled**2).sum(axis=0), dtype=np.float32)
