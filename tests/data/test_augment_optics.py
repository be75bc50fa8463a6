from functools import partial

import numpy as np
import pytest
import torch
from augment_parts import PHOTO, SPECS, only, sample

from seglab.data.augmentation.optics import CHUNK, blur, coarsen, cut_out, draw_noise, fresh_noise, gaussian
from seglab.data.augmentation.stacks import changed
from seglab.data.intensity import normalise

KINDS = [np.uint8, np.float32]


@pytest.mark.parametrize("dtype", KINDS)
def test_blur_spreads_a_point_evenly_and_keeps_its_sum(dtype: type) -> None:
    stack = np.zeros((21, 21, 4), dtype)
    stack[10, 10] = 250
    blurred = blur(stack, 1.0)
    assert blurred.dtype == dtype and abs(float(blurred[..., 0].sum()) - 250) < 12
    assert np.array_equal(blurred, blurred[:, ::-1]) and np.allclose(blurred, blurred.swapaxes(0, 1))
    assert blurred[10, 10, 3] == pytest.approx(250 / 6.28, rel=0.05)


@pytest.mark.parametrize("sigma", [0.1, 0.3, 0.8, 1.0, 2.7, 12.0])
def test_weights_of_a_blur_are_gaussian_and_keep_even_areas(sigma: float) -> None:
    weights = gaussian(sigma)
    exact = np.exp(-((np.arange(-40, 41) / sigma) ** 2) / 2)
    all_weights = np.pad(weights, (81 - len(weights)) // 2)
    assert weights.sum() == 1 and np.array_equal(weights, weights[::-1]) and (weights >= 0).all() and weights[0] > 0
    assert np.abs(all_weights - exact / exact.sum()).max() <= 1 / 256
    even = np.full((30, 30, 3), 201, np.uint8)
    assert np.array_equal(blur(even, sigma), even)


@pytest.mark.parametrize("n_planes", [1, 2, 3, 4, 5, 7])
@pytest.mark.parametrize("dtype", KINDS)
def test_each_plane_changes_as_if_it_were_alone(n_planes: int, dtype: type) -> None:
    planes = np.random.default_rng(0).integers(0, 256, (1, n_planes, 20, 30)).astype(dtype)
    steps = [partial(blur, sigma=0.7), partial(coarsen, factor=1.5), partial(blur, sigma=0.4)]
    together = changed(planes, steps)
    alone = np.stack([changed(planes[:, [n]], steps)[:, 0] for n in range(n_planes)], axis=1)
    tolerance = 1 if dtype == np.uint8 else 1e-3
    assert together.dtype == dtype and np.abs(together.astype(float) - alone).max() <= tolerance


@pytest.mark.parametrize("dtype", KINDS)
def test_coarsening_loses_fine_detail_and_keeps_size_mean_and_coarse_detail(dtype: type) -> None:
    board = np.indices((32, 48)).sum(0) % 2 * 100  # squares of one pixel
    halves = np.broadcast_to(np.where(np.arange(48) < 24, 0, 100), board.shape)
    fine, rough = (coarsen(plane.astype(dtype), 2.0).astype(float) for plane in (board, halves))
    assert fine.shape == (32, 48) and np.ptp(fine[4:-4, 4:-4]) < 2 and abs(fine.mean() - 50) < 1
    assert np.abs(rough[:, [4, 40]] - [0, 100]).max() < 3


@pytest.mark.parametrize("from_pool", [True, False])
def test_noise_is_normal_of_the_given_width_and_new_in_each_draw(from_pool: bool) -> None:
    rng, draws = np.random.default_rng(0), []
    for _ in range(2):
        values = np.zeros((3, 1, 128, 128), np.float32)
        draw_noise(values.size, 0.5, rng, from_pool=from_pool).add_to(values)
        draws.append(values)
    first, second = (draw.ravel() / 0.5 for draw in draws)
    assert abs(first.mean()) < 0.02 and first.std() == pytest.approx(1, abs=0.02)
    assert np.mean(np.abs(first) < 1) == pytest.approx(0.683, abs=0.01)
    assert abs(np.corrcoef(first, second)[0, 1]) < 0.02
    assert abs(np.corrcoef(draws[0][0].ravel(), draws[0][1].ravel())[0, 1]) < 0.03  # of two channels


def test_fresh_noise_follows_the_normal_distribution_for_any_size() -> None:
    rng = np.random.default_rng(0)
    assert [len(fresh_noise(size, rng)) for size in (1, 3, 4, 5)] == [1, 3, 4, 5]
    noise = np.sort(fresh_noise(200_001, rng))
    expected = torch.special.ndtri((torch.arange(noise.size) + 0.5) / noise.size).numpy()
    assert np.abs(noise - expected)[2000:-2000].max() < 0.03 and abs(np.mean(noise**4) - 3) < 0.06


def test_noise_reaches_every_value_of_a_large_sample() -> None:
    values = np.zeros(CHUNK * 2 + 77, np.float32)
    draw_noise(values.size, 1.0, np.random.default_rng(3), from_pool=True).add_to(values)
    assert np.count_nonzero(values) > values.size - 10 and values[-77:].std() == pytest.approx(1, abs=0.3)


@pytest.mark.parametrize("is_deep", [True, False])
def test_boxes_are_set_to_the_mean_and_no_larger_than_allowed(is_deep: bool) -> None:
    values = np.ones((2, 10, 40, 40), np.float32)
    cut_out(values, 1, 0.5, np.random.default_rng(1), is_deep=is_deep)
    hidden = values == 0
    assert np.array_equal(hidden[0], hidden[1]) and 0 < hidden[0].sum() <= 20 * 20 * (5 if is_deep else 10)
    extent = [int(hidden[0].any(tuple({0, 1, 2} - {axis})).sum()) for axis in range(3)]
    assert hidden[0].sum() == np.prod(extent) and (extent[0] == 10) is not is_deep


@pytest.mark.parametrize("name", SPECS)
def test_the_mask_keeps_what_boxes_hide_and_noise_covers(name: str) -> None:
    image, mask, spec = sample(name)
    values, labels = only(cutout=1, noise=1, blur=1, coarse=1)(image, mask, spec, np.random.default_rng(0))
    assert np.array_equal(labels, mask) and (values == 0).any()
    assert not torch.equal(values, normalise(image, spec.intensity))


def test_noise_stays_within_its_largest_width() -> None:
    image, mask, spec = np.full((3, 1, 64, 64), 120, np.uint8), np.zeros((1, 64, 64), np.uint8), SPECS["photo"]
    plain = normalise(image, PHOTO)
    widths = [
        float((only(noise=1, noise_std=0.2)(image, mask, spec, np.random.default_rng(seed))[0] - plain).std())
        for seed in range(30)
    ]
    assert min(widths) < 0.05 and 0.15 < max(widths) < 0.21
