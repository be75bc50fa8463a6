import math

import cv2
import numpy as np
import pytest

from seglab.data.augmentation.motion import Motion, linear_map
from seglab.data.augmentation.warp import warp

SIZES = [(40, 32), (17, 33), (1, 50), (50, 1), (1, 1), (2, 3)]


def turned(size: tuple[int, int], zoom: float = 0.8) -> Motion:
    return Motion(size=size, linear=linear_map(angle=0.4, zoom=zoom, shear=0.1), shift=(1.3, -2.2))


def smooth(n_planes: int, height: int, width: int) -> np.ndarray:
    noise = np.random.default_rng(0).uniform(0, 256, (n_planes, height, width))
    return np.stack([cv2.GaussianBlur(plane, (0, 0), 2) for plane in noise]).astype(np.uint8)


@pytest.mark.parametrize("size", SIZES)
def test_values_lie_between_the_four_pixels_about_their_place(size: tuple[int, int]) -> None:
    image, way = np.random.default_rng(0).integers(0, 256, (3, *size), dtype=np.uint8), turned(size)
    moved, _ = warp(image, image[:0], way.margins, way.matrix)
    x, y = np.meshgrid(np.arange(size[1]), np.arange(size[0]))
    across, down = np.einsum("ij,jhw->ihw", np.array(way.matrix), np.stack([x, y, np.ones_like(x)]))
    left, above = np.floor(across).astype(int), np.floor(down).astype(int)
    wanted = np.zeros(image.shape)
    for row, column in [(0, 0), (0, 1), (1, 0), (1, 1)]:
        shares = np.abs(1 - row - (down - above)) * np.abs(1 - column - (across - left))
        wanted += shares * image[:, mirror(above + row, size[0]), mirror(left + column, size[1])]
    assert np.abs(moved - wanted).max() < 0.51


def mirror(places: np.ndarray, length: int) -> np.ndarray:
    inside = places % (2 * length)
    return np.minimum(inside, 2 * length - 1 - inside)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("zoom", [0.3, 1.7])
def test_values_and_labels_are_those_of_opencv(size: tuple[int, int], zoom: float) -> None:
    planes, way = smooth(4, *size), turned(size, zoom)
    image, labels = planes[:3], planes[3:] // 32
    moved, moved_labels = way.move(image[:, None], labels)
    wanted, wanted_labels = way.move(image[:, None].astype(np.float32), labels)
    assert np.abs(moved - wanted).max() < 0.6  # OpenCV's places are off by some hundredths of a pixel
    assert np.mean(moved_labels != wanted_labels) <= 0.01


@pytest.mark.parametrize(("n_images", "n_labels"), [(1, 1), (2, 1), (3, 1), (4, 1), (7, 1), (6, 6), (0, 5), (5, 0)])
def test_each_plane_moves_as_if_it_were_alone(n_images: int, n_labels: int) -> None:
    planes, way = smooth(n_images + n_labels, 20, 27), turned((20, 27))
    how = way.margins, way.matrix
    image, labels = warp(planes[:n_images], planes[n_images:], *how)
    assert all(
        np.array_equal(one, warp(plane[None], planes[:0], *how)[0][0])
        for one, plane in zip(image, planes[:n_images], strict=True)
    )
    assert all(
        np.array_equal(one, warp(planes[:0], plane[None], *how)[1][0])
        for one, plane in zip(labels, planes[n_images:], strict=True)
    )


def test_given_places_are_those_of_the_matrix() -> None:
    planes, way = smooth(4, 30, 41), turned((30, 41))
    above, _, left, _ = way.margins
    x, y = np.meshgrid(np.arange(41), np.arange(30))
    places = np.einsum("ij,jhw->ihw", np.array(way.matrix), np.stack([x, y, np.ones_like(x)]))
    places += np.array([left, above])[:, None, None]
    by_places = warp(planes[:3], planes[3:], way.margins, way.matrix, places.astype(np.float32))
    by_matrix = warp(planes[:3], planes[3:], way.margins, way.matrix)
    assert np.abs(by_places[0].astype(int) - by_matrix[0]).max() <= 1
    assert np.mean(by_places[1] != by_matrix[1]) < 0.01


def test_read_only_and_crooked_arrays_move_alike() -> None:
    whole, way = smooth(4, 60, 41), turned((30, 41))
    half = whole[:, ::2]
    half.setflags(write=False)
    crooked = warp(half[:3], half[3:], way.margins, way.matrix)
    straight = warp(half[:3].copy(), half[3:].copy(), way.margins, way.matrix)
    assert all(np.array_equal(one, other) for one, other in zip(crooked, straight, strict=True))


def test_a_half_turn_of_a_large_plane_is_exact() -> None:
    image = np.random.default_rng(0).integers(0, 256, (1, 300, 1200), dtype=np.uint8)
    way = Motion(size=(300, 1200), linear=linear_map(angle=math.pi, zoom=1, shear=0))
    moved, labels = warp(image, image, way.margins, way.matrix)
    assert np.array_equal(moved, image[:, ::-1, ::-1]) and np.array_equal(labels, moved)
