import math

import numpy as np
import pytest
from augment_parts import painted

from seglab.data.augmentation.motion import Motion, linear_map, n_controls, spline_weights

KINDS = [np.uint8, np.float32]
TURNED = linear_map(angle=0.3, zoom=1.1, shear=0.1)


def motion(size: tuple[int, int], **changes: object) -> Motion:
    return Motion(size=size, **{"step": 16} | changes)  # type: ignore[arg-type]


def landmark(size: tuple[int, ...], *place: int) -> np.ndarray:
    mask = np.zeros(size, np.uint8)
    mask[place] = 1
    return mask


def moved_image(way: Motion, image: np.ndarray) -> np.ndarray:
    return way.move(image, np.zeros(image.shape[1:], np.uint8))[0]


def moved_labels(way: Motion, mask: np.ndarray, dtype: type) -> np.ndarray:
    """Of the mask of an image of that type: 8-bit ones move together with theirs, others beside them."""
    return way.move(np.zeros((1, *mask.shape), dtype), mask)[1]


@pytest.mark.parametrize("dtype", KINDS)
def test_a_landmark_rotates_and_moves_away_about_the_centre(dtype: type) -> None:
    mask = landmark((1, 41, 61), 0, 20, 40)  # 10 pixels right of the centre (20, 30)
    enlarged = moved_labels(motion((41, 61), linear=linear_map(angle=0, zoom=2, shear=0)), mask, dtype)
    assert enlarged[0, 20, 50] == 1 and enlarged.sum() in range(2, 10)
    turned = moved_labels(motion((41, 61), linear=linear_map(angle=math.pi / 2, zoom=1, shear=0)), mask, dtype)
    assert turned[0, 10, 30] + turned[0, 30, 30] == 1 == turned.sum()  # not squeezed by the aspect ratio


@pytest.mark.parametrize("dtype", KINDS)
def test_a_landmark_is_shifted_and_sheared(dtype: type) -> None:
    mask = landmark((1, 41, 61), 0, 12, 30)  # 8 above the centre
    assert moved_labels(motion((41, 61), shift=(4.0, -3.0)), mask, dtype)[0, 15, 26] == 1
    leaning = moved_labels(motion((41, 61), linear=linear_map(angle=0, zoom=1, shear=math.pi / 4)), mask, dtype)
    assert leaning[0, 12, 38] == 1 == leaning.sum()


@pytest.mark.parametrize("turns", range(4))
@pytest.mark.parametrize("flips", [(z, y, x) for z in (0, 1) for y in (0, 1) for x in (0, 1)])
def test_flips_and_turns_are_the_same_within_the_map_and_without(flips: tuple[int, ...], turns: int) -> None:
    image = np.random.default_rng(0).integers(0, 255, (3, 2, 24, 24), dtype=np.uint8)
    way = {"flips": tuple(map(bool, flips)), "turns": turns}
    exact = motion((24, 24), **way)
    expected = np.rot90(np.flip(image, [axis - 3 for axis in range(3) if flips[axis]]), turns, (-2, -1))
    assert np.array_equal(moved_image(exact, image), expected)
    bent = motion((24, 24), **way, bend=np.zeros((2, 5, 5)))
    values = moved_image(bent, image).astype(int)
    assert np.abs(values - expected).max() <= 3  # places are off by a few hundredths of a pixel
    for dtype in KINDS:
        assert np.array_equal(moved_labels(bent, image[0], dtype), expected[0])


@pytest.mark.parametrize("size", [(64, 64), (50, 70), (17, 33)])
def test_the_elastic_map_without_displacement_is_the_affine_one(size: tuple[int, int]) -> None:
    height, width = size
    way = {"linear": TURNED, "shift": (2.0, -1.0), "flips": (False, True, False)}
    controls = [n_controls(length, 16) for length in size]
    bent = motion(size, **way, bend=np.zeros((2, *controls)))
    places = bent.places - np.array([bent.margins[2], bent.margins[0]])[:, None, None]
    x, y = np.meshgrid(np.arange(width), np.arange(height))
    exact = np.einsum("ij,jhw->ihw", np.array(bent.matrix), np.stack([x, y, np.ones_like(x)]))
    assert np.abs(places - exact).max() < 0.02


@pytest.mark.parametrize("dtype", KINDS)
def test_a_landmark_follows_the_displacement_of_its_control_points(dtype: type) -> None:
    bend = np.zeros((2, 7, 7))
    bend[0], bend[1] = 5.0, -3.0  # the input of each pixel lies 5 right and 3 above it
    moved = moved_labels(motion((64, 64), bend=bend), landmark((1, 64, 64), 0, 30, 40), dtype)
    assert moved[0, 33, 35] == 1 == moved.sum()


@pytest.mark.parametrize("seed", range(5))
def test_the_largest_allowed_displacement_folds_nothing(seed: int) -> None:
    bend = np.random.default_rng(seed).choice([-1.0, 1.0], (2, 7, 7)) * 16 / 2.05
    x, y = motion((64, 64), bend=bend).places.astype(np.float64)
    areas = np.diff(x, axis=1)[:-1] * np.diff(y, axis=0)[:, :-1] - np.diff(x, axis=0)[:, :-1] * np.diff(y, axis=1)[:-1]
    assert areas.min() > -1e-3  # of what each pixel covers in the input


def test_spline_weights_are_shares_and_sums_of_them_are_exact_in_any_order() -> None:
    weights = spline_weights(100, 16)
    assert (
        weights.shape == (100, n_controls(100, 16)) == (100, 10)
        and (weights >= 0).all()
        and np.abs(weights.sum(1) - 1).max() < 1e-4
    )
    controls = np.round(np.random.default_rng(0).uniform(-4096, 4096, (2, 10, 10)) * 256) / 256
    there = weights @ controls @ weights.T
    back = (weights[:, ::-1] @ controls[:, ::-1, ::-1]) @ weights[:, ::-1].T
    assert np.array_equal(there, back)


@pytest.mark.parametrize("channels", [1, 2, 3, 4, 5, 13])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int16, np.float32, np.float64])
def test_each_band_moves_as_if_it_were_alone(channels: int, dtype: type) -> None:
    image = np.random.default_rng(0).integers(0, 200, (channels, 1, 20, 28)).astype(dtype)
    way = motion((20, 28), linear=TURNED)
    moved = moved_image(way, image)
    assert moved.dtype == (np.uint8 if dtype == np.uint8 else np.float32) and moved.shape == image.shape
    alone = np.concatenate([moved_image(way, band[None]) for band in image])
    assert np.abs(moved.astype(float) - alone).max() <= (1 if dtype == np.uint8 else 1e-3)


@pytest.mark.parametrize("dtype", KINDS)
def test_a_volume_moves_slice_by_slice_and_its_slices_change_places_in_a_flip(dtype: type) -> None:
    mask = np.random.default_rng(0).integers(0, 3, (6, 24, 40), dtype=np.uint8)
    bend = np.random.default_rng(1).uniform(-5, 5, (2, 5, 6))
    way = motion((24, 40), linear=TURNED, bend=bend)
    moved = moved_labels(way, mask, dtype)
    assert np.array_equal(moved[2:3], moved_labels(way, mask[2:3], dtype))
    flipped = motion((24, 40), linear=TURNED, bend=bend, flips=(True, False, False))
    reversed_ = moved_labels(flipped, mask, dtype)
    assert np.array_equal(reversed_, moved[::-1])


@pytest.mark.parametrize("bend", [None, np.random.default_rng(0).uniform(-7, 7, (2, 6, 7))])
def test_nothing_beyond_the_margins_is_asked_for(bend: np.ndarray | None) -> None:
    for seed in range(5):
        angle, x, y = np.random.default_rng(seed).uniform([-3, -30, -30], [3, 30, 30])
        moved = motion((40, 64), linear=linear_map(angle=angle, zoom=0.7, shear=0.2), shift=(x, y), bend=bend)
        above, below, left, right = moved.margins
        if bend is None:
            pixels = np.stack([*np.meshgrid(np.arange(64), np.arange(40)), np.ones((40, 64))])
            columns, rows = np.einsum("ij,jhw->ihw", np.array(moved.matrix), pixels)
        else:
            columns, rows = moved.places - np.array([left, above])[:, None, None]
        assert -above <= rows.min() and rows.max() <= 39 + below and -left <= columns.min()
        assert columns.max() <= 63 + right and max(moved.margins) < 150


@pytest.mark.parametrize("dtype", KINDS)
def test_borders_are_mirrored(dtype: type) -> None:
    mask = np.arange(8, dtype=np.uint8)[None, None].repeat(8, axis=1)
    moved = moved_labels(motion((8, 8), shift=(-3.0, 0.0)), mask, dtype)
    assert moved[0, 0].tolist() == [2, 1, 0, 0, 1, 2, 3, 4]


def test_a_copy_is_returned_even_when_nothing_moves() -> None:
    mask = np.ones((1, 8, 8), np.uint8)
    image = painted(mask, "photo")
    moved, labels = motion((8, 8)).move(image, mask)
    assert not np.shares_memory(moved, image) and not np.shares_memory(labels, mask)
