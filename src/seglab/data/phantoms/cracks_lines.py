"""Lines of the crack phantom: cracks, which wander, branch and fray, and wires, which do not."""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from seglab.data.phantoms.fields import BoolArray, FloatArray, smooth_noise

_FINE = 3  # sub-pixels per pixel and axis
_STEP_PX = 3.0


@dataclass(frozen=True)
class _Walk:
    """A random walk over the patch: where it starts, where it goes, how wide and how long it is, in pixels."""

    start: tuple[float, float]
    heading: float
    width: float
    n_steps: int


def draw_crack(rng: np.random.Generator, size: int) -> tuple[FloatArray, BoolArray]:
    """Draw one or two cracks of 1.5 to 8 px with branches.

    Args:
        rng: source of randomness.
        size: side of the square patch in pixels.

    Returns:
        Share of each pixel that the crack covers, 0 to 1, and the mask (at least half covered), both (H, W).
    """
    canvas = np.zeros((size * _FINE, size * _FINE), dtype=np.float32)
    for _ in range(int(rng.integers(1, 3))):
        _draw_walk(rng, canvas, _entering_walk(rng, size), n_generations=2)
    frayed = cv2.GaussianBlur(canvas, (0, 0), 0.5 * _FINE) + 0.13 * smooth_noise(rng, canvas.shape, 0.9 * _FINE)
    inside = (frayed > 0.5) & (cv2.GaussianBlur(canvas, (0, 0), 1.0 * _FINE) > 0.1)
    coverage = inside.reshape(size, _FINE, size, _FINE).mean(axis=(1, 3), dtype=np.float32)
    return coverage, coverage >= 0.5


def draw_wire(rng: np.random.Generator, size: int) -> FloatArray:
    """Draw a cable or its shadow: dark like a crack, but smooth and of one width.

    Args:
        rng: source of randomness.
        size: side of the square patch in pixels.

    Returns:
        Share of each pixel that the wire covers, 0 to 1, (H, W).
    """
    along = np.linspace(-0.1, 1.1, 40)
    across = (
        rng.uniform(0.1, 0.9) + rng.uniform(-0.5, 0.5) * (along - 0.5) + rng.uniform(-0.3, 0.3) * (along - 0.5) ** 2
    )
    points = np.stack([along, across] if rng.random() < 0.5 else [across, along], axis=1) * size * _FINE
    canvas = np.zeros((size * _FINE, size * _FINE), dtype=np.float32)
    thickness = int(rng.integers(2, 6)) * _FINE
    cv2.polylines(canvas, [np.rint(points).astype(np.int32)], isClosed=False, color=1.0, thickness=thickness)
    return np.asarray(canvas.reshape(size, _FINE, size, _FINE).mean(axis=(1, 3)), dtype=np.float32)


def _entering_walk(rng: np.random.Generator, size: int) -> _Walk:
    angle = rng.uniform(0, 2 * np.pi)
    distance = rng.uniform(0.3, 0.55) * size
    start = (size / 2 + distance * np.cos(angle), size / 2 + distance * np.sin(angle))
    width = float(np.exp(rng.uniform(np.log(2.2), np.log(7.0))))
    return _Walk(start, angle + np.pi + rng.normal(0, 0.35), width, n_steps=int(rng.integers(45, 80)))


def _draw_walk(rng: np.random.Generator, canvas: FloatArray, walk: _Walk, n_generations: int) -> None:
    position, heading, drift = np.array(walk.start), walk.heading, walk.heading
    swell = 0.3 * smooth_noise(rng, (walk.n_steps, 2), (5, 0))[:, 0]
    for step in range(walk.n_steps):
        drift += rng.normal(0, 0.06)
        heading += 0.35 * (drift - heading) + rng.normal(0, 0.4)
        target = position + _STEP_PX * np.array([np.cos(heading), np.sin(heading)])
        taper = min(1.0, 4 * (1 - step / walk.n_steps) + 0.3)
        _draw_segment(canvas, position, target, float(np.clip(walk.width * (1 + swell[step]) * taper, 1.5, 8.0)))
        position = target
        if n_generations and rng.random() < 0.035:
            _draw_walk(rng, canvas, _branch(rng, walk, position, drift, walk.n_steps - step), n_generations - 1)


def _branch(rng: np.random.Generator, walk: _Walk, position: NDArray[np.float64], heading: float, n_left: int) -> _Walk:
    turn = rng.uniform(0.4, 1.1) * rng.choice((-1, 1))
    n_steps = max(4, int(n_left * rng.uniform(0.3, 0.7)))
    return _Walk((float(position[0]), float(position[1])), heading + turn, walk.width * rng.uniform(0.5, 0.8), n_steps)


def _draw_segment(canvas: FloatArray, start: NDArray[np.float64], end: NDArray[np.float64], width: float) -> None:
    first, last = (tuple(round(float(value) * _FINE) for value in point) for point in (start, end))
    cv2.line(canvas, first, last, color=1.0, thickness=max(1, round(width * _FINE)))
