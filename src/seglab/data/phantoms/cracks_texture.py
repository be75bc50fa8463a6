"""Surfaces and light of the crack phantom: brick, plaster, asphalt and rubble stone."""

import numpy as np

from seglab.data.phantoms.fields import FloatArray, smooth_noise

_BRICK_RGB = (0.56, 0.36, 0.28)
_STONE_RGB = (0.58, 0.54, 0.46)
_PLASTER_RGB = (0.72, 0.69, 0.62)
_ASPHALT_RGB = (0.38, 0.38, 0.39)
_MORTAR_RGB = (0.62, 0.59, 0.54)


def draw_surface(rng: np.random.Generator, size: int, number: int) -> FloatArray:
    """Draw what the wall or road looks like in even light, without a crack.

    Args:
        rng: source of randomness.
        size: side of the square photo in pixels.
        number: number of the photo; brick, asphalt, plaster and stone take turns.

    Returns:
        Colour, 0 to 1, (H, W, 3).
    """
    draw = (_brick, _asphalt, _plaster, _stone)[number % 4]
    surface = draw(rng, size) * rng.uniform(0.8, 1.15) * (1 + rng.uniform(-0.06, 0.06, size=3))
    grain = 1 + rng.uniform(0.03, 0.07) * smooth_noise(rng, (size, size), 0.7)
    stains = 1 - rng.uniform(0.1, 0.35) * _soft_step(smooth_noise(rng, (size, size), 24) - 1.0, 0.25)
    return np.asarray(surface * (grain * stains)[..., None], dtype=np.float32)


def draw_light(rng: np.random.Generator, size: int) -> FloatArray:
    """Draw the light on a photo: a slope, slow changes and, on some photos, a shadow with an edge.

    Args:
        rng: source of randomness.
        size: side of the square photo in pixels.

    Returns:
        Factor on the colour, about 0.4 to 1.3, (H, W).
    """
    down, right = np.meshgrid(np.linspace(-1, 1, size), np.linspace(-1, 1, size), indexing="ij")
    slope_down, slope_right = rng.uniform(-0.2, 0.2, size=2)
    light = 1 + slope_down * down + slope_right * right + 0.05 * smooth_noise(rng, (size, size), 60)
    if rng.random() < 0.5:
        angle = rng.uniform(0, 2 * np.pi)
        edge = np.cos(angle) * down + np.sin(angle) * right + 0.08 * smooth_noise(rng, (size, size), 30)
        light *= 1 - rng.uniform(0.25, 0.5) * _soft_step(edge - rng.uniform(-0.2, 0.5), rng.uniform(0.01, 0.05))
    return np.asarray(light, dtype=np.float32)


def _brick(rng: np.random.Generator, size: int) -> FloatArray:
    down, right = _bent_grid(rng, size, bend_px=1.2)
    height, width = rng.uniform(26, 44), rng.uniform(64, 110)
    row = np.floor(down / height)
    right = right + 0.5 * width * (row % 2)
    edge_px = np.minimum(_to_line(down, height), _to_line(right, width))
    shade = rng.normal(0, 0.12, size=(97,))[(row * 31 + np.floor(right / width)).astype(int) % 97]
    return _jointed(rng, edge_px, shade.astype(np.float32), _BRICK_RGB)


def _stone(rng: np.random.Generator, size: int) -> FloatArray:
    down, right = _bent_grid(rng, size, bend_px=2.5)
    n_cells = 8
    cells = np.stack(np.meshgrid(np.arange(-1, n_cells + 1), np.arange(-1, n_cells + 1), indexing="ij"), axis=-1)
    centres = (cells.reshape(-1, 2) + rng.uniform(0.15, 0.85, size=((n_cells + 2) ** 2, 2))) * size / n_cells
    nearest = np.full((2, size, size), np.inf)
    owner = np.zeros((size, size), dtype=int)
    for index, (centre_down, centre_right) in enumerate(centres):
        distance = np.hypot(down - centre_down, right - centre_right)
        owner[distance < nearest[0]] = index
        nearest[1] = np.minimum(nearest[1], np.maximum(nearest[0], distance))
        nearest[0] = np.minimum(nearest[0], distance)
    shade = rng.normal(0, 0.13, size=len(centres))[owner]
    return _jointed(rng, ((nearest[1] - nearest[0]) / 2).astype(np.float32), shade.astype(np.float32), _STONE_RGB)


def _plaster(rng: np.random.Generator, size: int) -> FloatArray:
    relief = 0.05 * smooth_noise(rng, (size, size), 2.5) + 0.05 * smooth_noise(rng, (size, size), 12)
    pits = 0.45 * _soft_step(smooth_noise(rng, (size, size), 2.2) - 2.7, 0.1)
    down, _ = _bent_grid(rng, size, bend_px=0.4)
    panel_edge = 0.5 * np.exp(-((_to_line(down, rng.uniform(120, 220)) / rng.uniform(1.0, 2.0)) ** 2))
    return np.asarray((1 + relief - pits - panel_edge)[..., None] * np.array(_PLASTER_RGB), dtype=np.float32)


def _asphalt(rng: np.random.Generator, size: int) -> FloatArray:
    stones = 0.16 * smooth_noise(rng, (size, size), 0.9) + 0.08 * smooth_noise(rng, (size, size), 2.0)
    _, right = _bent_grid(rng, size, bend_px=1.5)
    seam = 0.4 * np.exp(-((_to_line(right, rng.uniform(170, 300)) / rng.uniform(1.2, 2.5)) ** 2))
    paint = _soft_step(8.0 - _to_line(right + rng.uniform(0, 300), 330.0), 0.5) * rng.uniform(0, 0.9)
    return np.asarray((1 + stones - seam + paint)[..., None] * np.array(_ASPHALT_RGB), dtype=np.float32)


def _jointed(rng: np.random.Generator, edge_px: FloatArray, shade: FloatArray, rgb: tuple[float, ...]) -> FloatArray:
    half_joint_px = rng.uniform(1.5, 3.2)
    joint = _soft_step(half_joint_px - edge_px + 0.4 * smooth_noise(rng, edge_px.shape, 2), 0.4)[..., None]
    relief = 0.06 * smooth_noise(rng, edge_px.shape, 3) + shade
    mortar = np.array(_MORTAR_RGB) * rng.choice((0.5, 0.75, 1.1))
    return np.asarray(joint * mortar + (1 - joint) * (1 + relief)[..., None] * np.array(rgb), dtype=np.float32)


def _bent_grid(rng: np.random.Generator, size: int, bend_px: float) -> tuple[FloatArray, FloatArray]:
    tilt = rng.normal(0, 0.05)
    down, right = np.meshgrid(np.arange(size), np.arange(size), indexing="ij")
    bent_down = np.cos(tilt) * down - np.sin(tilt) * right + bend_px * smooth_noise(rng, (size, size), 18)
    bent_right = np.sin(tilt) * down + np.cos(tilt) * right + bend_px * smooth_noise(rng, (size, size), 18)
    return bent_down.astype(np.float32), bent_right.astype(np.float32)


def _to_line(coordinate: FloatArray, period: float) -> FloatArray:
    return np.asarray(np.abs((coordinate + period / 2) % period - period / 2), dtype=np.float32)


def _soft_step(value: FloatArray, softness: float) -> FloatArray:
    return np.asarray(1 / (1 + np.exp(-np.clip(value / softness, -30, 30))), dtype=np.float32)
