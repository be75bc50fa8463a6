"""The map of one scene phantom: parcels, settlements, roads and water, as classes and as materials."""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from seglab.data.phantoms.fields import BoolArray, FloatArray, smooth_noise

OTHER, FIELD, WATER, BUILDING, ROAD = range(5)
_FINE_BITS = 8  # the drawing function takes coordinates in 1/256 px


@dataclass
class Layout:
    """What lies where.

    Args:
        labels: class of each pixel, (H, W).
        parcel: number of the parcel, building or road that a pixel belongs to, (H, W); pixels of one parcel are made
            of one material.
        shadow: True where a building keeps the sun off, (H, W).
    """

    labels: NDArray[np.uint8]
    parcel: NDArray[np.int32]
    shadow: BoolArray

    def put(self, where: BoolArray, label: int) -> None:
        """Cover the pixels `where`, (H, W), with a new parcel of class `label`."""
        self.labels[where] = label
        self.parcel[where] = self.parcel.max() + 1


def draw_layout(rng: np.random.Generator, shape: tuple[int, int]) -> Layout:
    """Draw a countryside with one or two settlements.

    Args:
        rng: source of randomness.
        shape: (H, W).

    Returns:
        Classes 0 other, 1 field, 2 water, 3 building, 4 road, with the parcels behind them.
    """
    layout = _parcels(rng, shape)
    layout.put(smooth_noise(rng, shape, 26) > 1.35, OTHER)  # heath and scrub across the parcels
    layout.put(_lake(rng, shape), WATER)
    if rng.random() < 0.7:
        layout.put(_line(rng, shape, rng.uniform(5, 11), bend=0.25), WATER)
    settlements = [_settlement(rng, shape) for _ in range(int(rng.integers(1, 3)))]
    for centre, radius in settlements:
        _build(rng, layout, centre, radius)
    for centre, _ in settlements + settlements[:1]:
        road = _line(rng, shape, rng.uniform(1.6, 3.4), bend=0.1, through=centre)
        layout.put(road, ROAD)  # on a bridge where it meets water
    layout.shadow &= (layout.labels != BUILDING) & (layout.labels != WATER)
    return layout


def _parcels(rng: np.random.Generator, shape: tuple[int, int]) -> Layout:
    across, along = _turned(rng, shape)
    strip = np.searchsorted(np.sort(rng.uniform(-300, 300, size=18)), across)
    parcel = np.zeros(shape, dtype=np.int32)
    edge = np.zeros(shape, dtype=bool)
    for number in np.unique(strip):
        cuts = np.sort(rng.uniform(-350, 350, size=int(rng.integers(8, 16))))
        inside = strip == number
        parcel[inside] = 100 * number + np.searchsorted(cuts, along[inside])
    edge[:, 1:] |= parcel[:, 1:] != parcel[:, :-1]
    edge[1:] |= parcel[1:] != parcel[:-1]
    is_field = rng.random(parcel.max() + 1) < 0.68
    labels = np.where(is_field[parcel] & ~edge, FIELD, OTHER).astype(np.uint8)
    return Layout(labels, parcel, np.zeros(shape, dtype=bool))


def _turned(rng: np.random.Generator, shape: tuple[int, int]) -> tuple[FloatArray, FloatArray]:
    angle = rng.uniform(0, np.pi)
    down, right = np.indices(shape) - np.reshape(shape, (2, 1, 1)) / 2
    bend = 3 * smooth_noise(rng, shape, 50)
    across = np.cos(angle) * down + np.sin(angle) * right + bend
    along = -np.sin(angle) * down + np.cos(angle) * right + bend
    return across.astype(np.float32), along.astype(np.float32)


def _lake(rng: np.random.Generator, shape: tuple[int, int]) -> BoolArray:
    centre = rng.uniform(0.15, 0.85, size=2) * shape
    down, right = np.indices(shape)
    radius = np.hypot(down - centre[0], right - centre[1]) / (rng.uniform(0.1, 0.19) * shape[1])
    return np.asarray(radius + 0.3 * smooth_noise(rng, shape, 14) < 1)


def _line(
    rng: np.random.Generator,
    shape: tuple[int, int],
    width: float,
    bend: float,
    through: tuple[float, float] | None = None,
) -> BoolArray:
    down, right = through if through else rng.uniform(0.2, 0.8, size=2) * shape
    angle = rng.uniform(0, np.pi)
    away = np.linspace(-1.5, 1.5, 121) * max(shape)
    curve = bend * max(shape) * np.sin(away / max(shape) * rng.uniform(2, 5)) * rng.uniform(0.3, 1)
    points = np.stack(
        [right + away * np.cos(angle) - curve * np.sin(angle), down + away * np.sin(angle) + curve * np.cos(angle)],
        axis=1,
    )
    canvas = np.zeros((2 * shape[0], 2 * shape[1]), dtype=np.uint8)
    fixed = np.rint(points * 2 * 2**_FINE_BITS).astype(np.int32)
    cv2.polylines(canvas, [fixed], isClosed=False, color=1, thickness=max(2, round(2 * width)), shift=_FINE_BITS)
    return np.asarray(canvas.reshape(shape[0], 2, shape[1], 2).mean(axis=(1, 3)) >= 0.5)


def _settlement(rng: np.random.Generator, shape: tuple[int, int]) -> tuple[tuple[float, float], float]:
    down, right = rng.uniform(0.2, 0.8, size=2) * shape
    return (float(down), float(right)), float(rng.uniform(28, 50))


def _build(rng: np.random.Generator, layout: Layout, centre: tuple[float, float], radius: float) -> None:
    shape = (layout.labels.shape[0], layout.labels.shape[1])
    down, right = np.indices(shape) - np.reshape(centre, (2, 1, 1))
    town = np.hypot(down, right) + 6 * smooth_noise(rng, shape, 10) < radius
    town &= layout.labels != WATER
    layout.put(town, OTHER)
    layout.shadow &= ~town
    angle = rng.uniform(0, np.pi / 2)
    turned = (np.cos(angle) * down + np.sin(angle) * right, np.cos(angle) * right - np.sin(angle) * down)
    _streets_and_houses(rng, layout, town, np.stack(turned))


def _streets_and_houses(rng: np.random.Generator, layout: Layout, town: BoolArray, place: NDArray[np.float64]) -> None:
    pitch = rng.uniform(11, 15)
    lot, inside = np.divmod(place, pitch)
    street = (inside < 2.2) & (lot % np.reshape((2, 3), (2, 1, 1)) == 0)
    layout.put(town & street.any(axis=0), ROAD)
    lot = (lot - lot.min(axis=(1, 2), keepdims=True)).astype(int)
    n_lots = lot.max(axis=(1, 2)) + 1
    low = rng.uniform(3.0, 4.5, size=(2, *n_lots))
    high = low + pitch * rng.uniform(0.35, 0.62, size=(2, *n_lots))
    is_built = rng.random(n_lots) < 0.85
    low, high, is_built = low[:, lot[0], lot[1]], high[:, lot[0], lot[1]], is_built[lot[0], lot[1]]
    house = town & is_built & ((inside > low) & (inside < high)).all(axis=0) & (layout.labels == OTHER)
    layout.labels[house] = BUILDING
    layout.parcel[house] = (layout.parcel.max() + 1 + lot[0] * n_lots[1] + lot[1])[house]
    _cast_shadow(layout, house)


def _cast_shadow(layout: Layout, house: BoolArray) -> None:
    reach = np.zeros((5, 5), dtype=bool)
    reach[:3, :3] = np.eye(3, dtype=bool)  # the sun stands in the south-east
    layout.shadow |= ndimage.binary_dilation(house, reach) & ~house
