"""Components by runs equal scipy's by pixels, on masks of every kind."""

import numpy as np
import pytest
from scipy import ndimage

from seglab.components import Neighbours, bounding_box, components, fill_holes

SHAPES = [(1, 1), (1, 9), (9, 1), (12, 17), (1, 1, 1), (5, 1, 7), (6, 9, 11)]


def masks(shape: tuple[int, ...]) -> list[np.ndarray]:
    rng = np.random.default_rng(sum(shape))
    drawn = [rng.random(shape) < share for share in (0.02, 0.2, 0.4, 0.6, 0.9)]
    return [np.zeros(shape, bool), np.ones(shape, bool), *drawn]


@pytest.mark.parametrize("neighbours", ["faces", "all"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_components_equal_those_of_scipy_and_the_mask_stays(shape: tuple[int, ...], neighbours: Neighbours) -> None:
    structure = np.ones((3,) * len(shape)) if neighbours == "all" else None
    for mask in masks(shape):
        before = mask.copy()
        expected, n = ndimage.label(mask, structure)
        found = components(mask, neighbours)
        image = found.image()
        assert len(found.sizes) == n and np.array_equal(image > 0, mask)
        assert np.array_equal(found.sizes, np.bincount(image[mask], minlength=n + 1)[1:])
        assert len(set(zip(image[mask], expected[mask], strict=True))) == n  # one to one
        assert np.array_equal(mask, before)


def test_components_are_numbered_by_their_first_pixel_and_the_largest_is_the_first_of_equals() -> None:
    mask = np.array([[1, 1, 0, 1], [0, 0, 0, 1], [1, 0, 0, 0]], bool)
    found = components(mask)
    assert found.image().tolist() == [[1, 1, 0, 2], [0, 0, 0, 2], [3, 0, 0, 0]]
    assert found.largest().tolist() == [[True, True, False, False], [False] * 4, [False] * 4]
    assert not components(np.zeros((2, 3), bool)).largest().any()


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_holes_are_filled_as_by_scipy_in_a_new_array(shape: tuple[int, ...]) -> None:
    for mask in masks(shape):
        before = mask.copy()
        filled = fill_holes(mask)
        assert np.array_equal(filled, ndimage.binary_fill_holes(mask))
        assert np.array_equal(mask, before) and filled is not mask


def test_bounding_box_is_the_smallest() -> None:
    mask = np.zeros((5, 6, 7), bool)
    mask[1:3, 4, 2] = mask[2, 5, 6] = True
    assert bounding_box(mask) == (slice(1, 3), slice(4, 6), slice(2, 7))
    assert bounding_box(np.zeros((2, 2), bool)) is None
