"""The body of one CT phantom: organs as bent ellipsoids on RAS axes (right, anterior and superior are positive)."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from seglab.data.phantoms.ct_liver import draw_liver, draw_tumours, draw_vessels
from seglab.data.phantoms.fields import BoolArray, FloatArray, smooth_noise

_AIR, _LUNG, _FAT, _SOFT, _MUSCLE, _BONE = -1000.0, -820.0, -100.0, 40.0, 62.0, 330.0
_LIVER, _TUMOUR = 110.0, 60.0
_DEPTH_TO_WIDTH = 0.74  # of a torso lying on its back
_NOISE_HU = 13.0


@dataclass(frozen=True)
class _Organ:
    """An ellipsoid in body coordinates (half a body wide is 1; the lowest slice is 0, the highest 1)."""

    centre: tuple[float, float, float]
    radii: tuple[float, float, float]
    hu: float


_Reach = list[tuple[FloatArray, FloatArray]]
"""Per axis the lowest and the highest body coordinate in each slice across it."""

_ALWAYS = 9.0  # a radius so long that an organ runs through every slice
_ORGANS = (
    _Organ((0.40, -0.33, 0.15), (0.13, 0.14, 0.30), 150.0),  # right kidney
    _Organ((-0.40, -0.32, 0.22), (0.13, 0.14, 0.32), 150.0),  # left kidney
    _Organ((-0.10, 0.05, 0.35), (0.30, 0.09, 0.14), 95.0),  # pancreas
    _Organ((-0.30, 0.20, 0.62), (0.26, 0.23, 0.30), 35.0),  # stomach, filled
    _Organ((-0.30, 0.33, 0.62), (0.17, 0.09, 0.22), -900.0),  # its air, which rises to the front
    _Organ((-0.60, -0.20, 0.62), (0.17, 0.30, 0.30), 107.0),  # spleen
    _Organ((-0.07, -0.20, 0.50), (0.06, 0.06, _ALWAYS), 165.0),  # aorta
    _Organ((0.12, -0.20, 0.50), (0.06, 0.05, _ALWAYS), 112.0),  # vena cava
    _Organ((0.00, -0.41, 0.50), (0.15, 0.13, _ALWAYS), _BONE),  # vertebrae
    _Organ((0.00, -0.57, 0.50), (0.06, 0.06, _ALWAYS), 25.0),  # spinal canal
    _Organ((0.00, -0.67, 0.50), (0.03, 0.06, _ALWAYS), _BONE),  # spinous process
)


def draw_patient(
    rng: np.random.Generator,
    shape: tuple[int, int, int],
    spacing_mm: tuple[float, float, float],
    n_tumours: int,
) -> tuple[NDArray[np.int16], NDArray[np.uint8]]:
    """Draw one abdomen.

    Args:
        rng: source of randomness.
        shape: voxels along (right, anterior, superior).
        spacing_mm: voxel size along the same axes.
        n_tumours: tumours to place; each lies wholly inside the liver.

    Returns:
        HU and labels (0 background, 1 liver, 2 tumour), both of shape `shape`.
    """
    place = _bent(rng, _body_coordinates(shape), spacing_mm)
    hu, cavity = _torso(rng, place)
    reach = _reach(place)
    _paint_bowel(rng, hu, place, reach)
    for organ in _ORGANS:
        hu[_inside(rng, place, reach, organ)] = organ.hu + rng.uniform(-6, 6)
    hu[_ribs(place)] = _BONE
    liver = draw_liver(rng, place) & cavity & (hu < _BONE - 20)
    hu[liver] = _LIVER + rng.uniform(-7, 7)
    hu[liver & draw_vessels(rng, shape, spacing_mm)] += 28
    tumour = draw_tumours(rng, liver, spacing_mm, n_tumours)
    hu[tumour] = _TUMOUR + rng.uniform(-6, 6)
    labels = liver.astype(np.uint8) + tumour.astype(np.uint8)
    return _scan(rng, hu), labels


def _body_coordinates(shape: tuple[int, int, int]) -> FloatArray:
    width, height, depth = shape
    half_body = 0.46 * width
    right = (np.arange(width) - (width - 1) / 2) / half_body
    front = (np.arange(height) - (height - 1) / 2) / half_body
    up = np.arange(depth) / (depth - 1)
    return np.stack(np.meshgrid(right, front, up, indexing="ij")).astype(np.float32)


def _bent(rng: np.random.Generator, place: FloatArray, spacing_mm: tuple[float, float, float]) -> FloatArray:
    shape = place.shape[1:]
    half_body_mm = 0.46 * shape[0] * spacing_mm[0]
    sigma = [max(0.17 * half_body_mm / spacing, 2.0) for spacing in spacing_mm]
    bend = np.stack([amount * smooth_noise(rng, shape, sigma) for amount in (0.022, 0.022, 0.025)])
    return np.asarray(place + bend, dtype=np.float32)


def _torso(rng: np.random.Generator, place: FloatArray) -> tuple[FloatArray, BoolArray]:
    right, front, up = place
    radius = np.hypot(right, front / _DEPTH_TO_WIDTH)  # 1 at the skin
    fat_rim = rng.uniform(0.06, 0.13)
    cavity = radius < 0.86 - fat_rim
    hu = np.full(radius.shape, _AIR, dtype=np.float32)
    hu[radius < 1] = _FAT
    hu[radius < 1 - fat_rim] = _MUSCLE
    hu[cavity] = _SOFT
    hu[cavity & (smooth_noise(rng, radius.shape, (6, 6, 2)) > 0.7)] = _FAT  # between the organs
    hu[cavity & (up > 1.02 - 0.5 * radius**2) & (np.abs(right) > 0.14)] = _LUNG
    return hu, cavity


def _reach(place: FloatArray) -> _Reach:
    others = [tuple(other for other in range(3) if other != axis) for axis in range(3)]
    return [(place[axis].min(axis=others[axis]), place[axis].max(axis=others[axis])) for axis in range(3)]


def _inside(rng: np.random.Generator, place: FloatArray, reach: _Reach, organ: _Organ) -> BoolArray:
    """Only the slices that the organ can reach are looked at."""
    centre = np.array(organ.centre) + rng.normal(0, 0.015, size=3)
    radii = np.array(organ.radii) * rng.uniform(0.92, 1.08)
    near = [
        np.flatnonzero((lowest < middle + radius) & (highest > middle - radius))
        for (lowest, highest), middle, radius in zip(reach, centre, radii, strict=True)
    ]
    box = tuple(slice(slices[0], slices[-1] + 1) if len(slices) else slice(0) for slices in near)
    scaled = (place[:, *box] - centre.reshape(3, 1, 1, 1)) / radii.reshape(3, 1, 1, 1)
    inside = np.zeros(place.shape[1:], bool)
    inside[box] = (scaled**2).sum(axis=0) < 1
    return inside


def _paint_bowel(rng: np.random.Generator, hu: FloatArray, place: FloatArray, reach: _Reach) -> None:
    for _ in range(7):
        centre = (rng.uniform(-0.55, 0.3), rng.uniform(0.0, 0.38), rng.uniform(0.0, 0.3))
        radii = (rng.uniform(0.07, 0.13), rng.uniform(0.07, 0.11), rng.uniform(0.08, 0.2))
        hu[_inside(rng, place, reach, _Organ(centre, radii, 0.0))] = rng.uniform(50, 110)
        if rng.random() < 0.5:
            gas = _Organ(centre, (radii[0] * 0.6, radii[1] * 0.6, radii[2] * 0.6), -900.0)
            hu[_inside(rng, place, reach, gas)] = gas.hu


def _ribs(place: FloatArray) -> BoolArray:
    right, front, up = place
    radius = np.hypot(right, front / _DEPTH_TO_WIDTH)
    around = np.arctan2(front, np.abs(right))  # 0 at the side, pi/2 at the breastbone
    slope = np.sin(9 * around + 14 * up)  # ribs run down and forward, so a slice cuts many of them
    return np.asarray((np.abs(radius - 0.82) < 0.025) & (slope > 0.55) & (front < 0.35))


def _scan(rng: np.random.Generator, hu: FloatArray) -> NDArray[np.int16]:
    blurred = ndimage.gaussian_filter(hu, (0.5, 0.5, 0.2))
    return np.asarray(
        np.clip(np.rint(blurred + _NOISE_HU * smooth_noise(rng, hu.shape, (0.7, 0.7, 0.3))), -1024, 3000),
        dtype=np.int16,
    )
