import math

import numpy as np
import pytest
import torch
from augment_parts import BANDS, CT, PHOTO, SPECS, only, sample

from seglab.data.augmentation.values import Shade, color_matrix, recolor
from seglab.data.intensity import normalise

SHADES = {"gamma": 0.7, "contrast": 1.2, "brightness": -0.3}


@pytest.mark.parametrize("change", [{}, *({name: value} for name, value in SHADES.items()), SHADES])
def test_the_table_gives_what_the_formula_gives(change: dict[str, float]) -> None:
    image = np.random.default_rng(0).integers(0, 256, (3, 1, 16, 24), dtype=np.uint8)
    mean, std = (np.array(values)[:, None, None, None] for values in (PHOTO.mean, PHOTO.std))
    bent = 255 * (image / 255) ** change.get("gamma", 1.0)
    wanted = (bent - mean) / std * change.get("contrast", 1.0) + change.get("brightness", 0.0)
    wanted = np.clip(wanted, -mean / std, (255 - mean) / std)
    values = np.stack([entries[channel] for entries, channel in zip(Shade(**change).table(PHOTO), image, strict=True)])
    assert np.abs(values - wanted).max() < 1e-4


def test_brightness_is_in_standard_deviations_and_contrast_about_the_mean() -> None:
    image = np.array([20, 110, -70], np.int16).reshape(1, 1, 1, 3)  # the mean, one std above, one below
    values = Shade(contrast=1.5, brightness=0.25)(image, CT)
    assert values.ravel() == pytest.approx([0.25, 1.75, -1.25], abs=1e-6)


def test_gamma_keeps_the_ends_of_the_window_and_bends_the_middle() -> None:
    image = np.array([-300, -200, 25, 250, 400], np.int16).reshape(1, 1, 1, 5)
    stored = Shade(gamma=2.0)(image, CT).ravel() * 90 + 20
    assert stored == pytest.approx([-200, -200, -200 + 450 / 4, 250, 250], abs=1e-3)


def test_gamma_leaves_what_lies_far_from_the_mean_of_a_raster() -> None:
    image = np.array([[0, 1800, 5000]], np.uint16).repeat(5, axis=0)[:, None, None]
    plain, bent = (Shade(gamma=gamma)(image, BANDS)[0, 0, 0] for gamma in (1.0, 1.5))
    assert bent[0] == pytest.approx(plain[0], abs=1e-5) and bent[2] == pytest.approx(plain[2], abs=1e-5)
    assert bent[1] == pytest.approx(plain[1]) and Shade(gamma=1.5)(image // 2, BANDS)[0, 0, 0, 1] < -0.1


def test_a_shift_moves_what_lies_within_the_window_and_clips_the_rest() -> None:
    image = np.array([-1000, -201, -190, 0, 240, 251], np.int16).reshape(1, 1, 1, 6)
    stored = Shade(hu=20.0)(image, CT).ravel() * 90 + 20
    assert stored == pytest.approx([-200, -200, -170, 20, 250, 250], abs=1e-3)
    assert Shade(hu=-20.0)(image, CT).ravel()[-1] * 90 + 20 == pytest.approx(250)


def test_a_shift_is_for_ct_alone() -> None:
    for name in SPECS:
        image, mask, spec = sample(name)
        values, _ = only(hu_shift=1)(image, mask, spec, np.random.default_rng(0))
        assert torch.equal(values, normalise(image, spec.intensity)) != (spec.kind == "volume")


def test_color_turns_photos_and_weighs_the_bands_of_rasters() -> None:
    for name in SPECS:
        image, mask, spec = sample(name)
        values, _ = only(color=1)(image, mask, spec, np.random.default_rng(0))
        plain = normalise(image, spec.intensity)
        if name == "raster":
            mean, std = (np.array(v)[:, None, None, None] for v in (BANDS.mean, BANDS.std))
            gains = (values * std + mean)[image > 100] / image[image > 100].astype(float)
            assert 0.9 <= gains.min() < gains.max() <= 1.1
        assert torch.equal(values, plain) == (spec.kind == "volume")


def test_a_color_matrix_keeps_grey_and_the_mean_and_turns_red_into_green() -> None:
    matrix = color_matrix(1.3, 0.4)
    assert np.allclose(matrix @ np.ones(3), 1) and np.allclose(np.ones(3) @ matrix, 1)
    assert np.allclose(color_matrix(1, 0), np.eye(3)) and np.allclose(color_matrix(0, 1), 1 / 3)
    assert np.allclose(color_matrix(1, 2 * math.pi / 3) @ [1, 0, 0], [0, 1, 0])


def test_recolouring_mixes_stored_values_and_stays_between_black_and_white() -> None:
    image = np.random.default_rng(0).integers(0, 256, (3, 1, 16, 24), dtype=np.uint8)
    values, matrix = normalise(image, PHOTO).numpy(), color_matrix(1.5, 0.3)
    recolor(values, matrix, PHOTO)
    stored = values * np.array(PHOTO.std)[:, None, None, None] + np.array(PHOTO.mean)[:, None, None, None]
    mixed = np.clip(np.einsum("ij,jzyx->izyx", matrix, image), 0, 255)
    assert np.abs(stored - mixed).max() < 0.01
    assert np.abs(np.einsum("ij,jzyx->izyx", matrix, image) - mixed).max() > 10  # some had to be clipped
