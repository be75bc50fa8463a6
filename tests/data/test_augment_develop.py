import numpy as np
import pytest
from augment_parts import SPECS, only, sample

from seglab.data.augmentation.develop import develop
from seglab.data.augmentation.optics import CHUNK, SHARES, blur, draw_noise, gaussian

SIGMAS = [0.3, 0.5, 0.8, 1.0, 1.5, 3.0, 7.0]


def levels(channels: int, n_slices: int, height: int, width: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (channels, n_slices, height, width), dtype=np.uint8)


def tables(channels: int) -> np.ndarray:
    return np.random.default_rng(1).standard_normal((channels, 256), dtype=np.float32)


@pytest.mark.parametrize("channels", [1, 2, 3, 4, 7])
def test_each_channel_goes_through_its_own_table(channels: int) -> None:
    image, table = levels(channels, 2, 9, 13), tables(channels)
    wanted = np.stack([entries[channel] for entries, channel in zip(table, image, strict=True)])
    assert np.array_equal(develop(image, table), wanted)


@pytest.mark.parametrize("size", [(40, 32), (17, 33), (1, 50), (50, 1), (1, 1), (2, 3)])
def test_a_blur_is_exact_but_for_the_rounding_of_its_result_and_is_that_of_opencv(size: tuple[int, int]) -> None:
    image, same = levels(2, 2, *size), np.arange(256, dtype=np.float32)[None].repeat(2, axis=0)
    for sigma in SIGMAS:
        shares = np.rint(gaussian(sigma) * SHARES).astype(int)
        reach = len(shares) // 2
        sums = np.pad(image.astype(int), [(0, 0), (0, 0), (reach, reach), (reach, reach)], mode="symmetric")
        for axis in (2, 3):
            sums = np.apply_along_axis(np.convolve, axis, sums, shares, mode="valid")
        blurred = develop(image, same, sigma)
        assert np.array_equal(blurred, (sums + SHARES**2 // 2) // SHARES**2)
        opencv = np.stack([blur(plane, sigma) for plane in image.reshape(-1, *size)]).reshape(image.shape)
        assert (blurred - opencv)[sums % SHARES**2 != SHARES**2 // 2].max(initial=0) == 0


@pytest.mark.parametrize("sigma", SIGMAS)
def test_a_blur_keeps_even_areas_black_and_white(sigma: float) -> None:
    same = np.arange(256, dtype=np.float32)[None]
    for level in (0, 1, 128, 254, 255):
        assert (develop(np.full((1, 1, 9, 21), level, np.uint8), same, sigma) == level).all()


@pytest.mark.parametrize("from_pool", [True, False])
@pytest.mark.parametrize("shape", [(3, 1, 30, 41), (1, 5, 150, 131), (1, 1, 2, CHUNK + 5)])
def test_noise_is_added_as_it_is_to_other_images(shape: tuple[int, ...], from_pool: bool) -> None:
    image, table = levels(*shape), tables(shape[0])
    noise = draw_noise(image.size, 0.3, np.random.default_rng(5), from_pool=from_pool)
    wanted = develop(image, table, 0.8)
    noise.add_to(wanted)
    assert np.allclose(develop(image, table, 0.8, noise), wanted, atol=1e-6)


def test_recolouring_comes_before_noise() -> None:
    image, mask, spec = sample("photo")
    quiet, noisy = (
        only(color=1, noise=1, noise_std=std)(image, mask, spec, np.random.default_rng(2))[0] for std in (0.0, 0.2)
    )
    noise = (noisy - quiet).numpy()
    assert 0.02 < noise.std() < 0.2 and abs(np.corrcoef(noise[0].ravel(), noise[1].ravel())[0, 1]) < 0.1


def test_a_blur_of_a_photo_is_drawn_no_weaker_than_that_of_other_data() -> None:
    image, mask, spec = sample("photo")
    blurred, raw = (
        only(blur=1, blur_px=2)(values, mask, SPECS["photo"], np.random.default_rng(0))[0]
        for values in (image, image.astype(np.float32))
    )
    assert np.abs(blurred - raw).max() < 1.5 / min(spec.intensity.std)
