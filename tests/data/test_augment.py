from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from augment_parts import SPECS, only, painted, sample

from seglab.data.augment import CHANCES, SIZES, Augment
from seglab.data.intensity import normalise
from seglab.errors import ConfigError

CONF = Path(__file__).resolve().parents[2] / "conf/augment"
EVERYTHING = dict.fromkeys(CHANCES, 1.0) | {
    "shear_deg": 10.0,
    "translate": 0.2,
    "rotate_deg": 90.0,
    "scale": 1.0,
    "flip": 0.5,
}


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


@pytest.mark.parametrize("name", SPECS)
def test_a_sample_is_only_normalised_when_all_is_off(name: str) -> None:
    image, mask, spec = sample(name)
    values, labels = only()(image, mask, spec, rng())
    assert torch.equal(values, normalise(image, spec.intensity)) and np.array_equal(labels, mask)


@pytest.mark.parametrize("chance", sorted(set(CHANCES) - {"flip", "turn"}))
@pytest.mark.parametrize("name", SPECS)
def test_a_change_of_size_zero_changes_nothing(name: str, chance: str) -> None:
    image, mask, spec = sample(name)
    nothing = dict.fromkeys(SIZES, 0.0) | {"coarsest": 1.0, "cutout_size": 0.0}
    values, labels = only(**{chance: 1.0} | nothing)(image, mask, spec, rng())
    plain = normalise(image, spec.intensity)
    if chance == "cutout":
        assert (values != plain).sum() <= 4 * len(image) * spec.n_slices  # boxes have a pixel at least
    else:
        assert torch.allclose(values, plain, atol=1e-5)
    assert np.array_equal(labels, mask)


@pytest.mark.parametrize("name", SPECS)
@pytest.mark.parametrize("seed", range(6))
def test_no_label_comes_into_being_and_sizes_and_types_stay(name: str, seed: int) -> None:
    image, mask, spec = sample(name)
    before = image.copy(), mask.copy()
    values, labels = Augment(**EVERYTHING)(image, mask, spec, rng(seed))
    assert set(labels.unique().tolist()) <= set(np.unique(mask).tolist())
    assert values.shape == image.shape and labels.shape == mask.shape
    assert values.dtype == torch.float32 and labels.dtype == torch.uint8 and values.isfinite().all()
    assert values.is_contiguous() and labels.is_contiguous()
    assert np.array_equal(image, before[0]) and np.array_equal(mask, before[1])


@pytest.mark.parametrize("name", SPECS)
def test_without_ignored_pixels_none_appears_at_the_borders(name: str) -> None:
    image, mask, spec = sample(name)
    mask = np.where(mask == 255, 0, mask)
    for seed in range(5):
        labels = only(affine=1, rotate_deg=45, scale=1, translate=0.3, elastic=1)(image, mask, spec, rng(seed))[1]
        assert labels.max() <= 2


@pytest.mark.parametrize("name", SPECS)
@pytest.mark.parametrize("seed", range(4))
def test_image_and_mask_stay_aligned(name: str, seed: int) -> None:
    _, mask, spec = sample(name, 64, 64)
    image = np.repeat(painted(mask, name), spec.n_slices, axis=1)
    moves = only(flip=0.5, turn=0.5, affine=1, shear_deg=10, translate=0.1, elastic=1)
    values, labels = moves(image, mask, spec, rng(seed))
    low, high = (normalise(np.full_like(image, v), spec.intensity) for v in (0, 100))
    share = (values - low) / (high - low)
    certain = (share < 0.01) | (share > 0.99)  # away from interpolated edges
    assert certain.float().mean() > 0.7
    assert torch.equal(share.round()[certain], (labels == 1).float().expand_as(share)[certain])


@pytest.mark.parametrize("name", SPECS)
def test_the_generator_alone_decides(name: str) -> None:
    image, mask, spec = sample(name)
    augment = Augment(**EVERYTHING)
    first, again, other = (augment(image, mask, spec, rng(seed)) for seed in (1, 1, 2))
    assert torch.equal(first[0], again[0]) and torch.equal(first[1], again[1])
    assert not torch.equal(first[0], other[0])


def test_every_axis_is_flipped_in_half_of_the_draws() -> None:
    spec, draws, places = SPECS["ct volume"], rng(), np.zeros((2, 2, 2))
    corner = np.zeros((2, 2, 2), np.uint8)
    corner[0, 0, 0] = 1
    for _ in range(400):
        places += only(flip=0.5)(corner[None], corner, spec, draws)[1].numpy()
    assert places.min() > 25  # 50 expected in each corner


def test_the_slices_of_a_stack_keep_their_order() -> None:
    spec = SPECS["ct stack"]
    image = np.broadcast_to(np.arange(5, dtype=np.int16)[None, :, None, None] * 10, (1, 5, 16, 16))
    for seed in range(8):
        values, _ = only(flip=1, affine=1)(image, np.zeros((1, 16, 16), np.uint8), spec, rng(seed))
        assert (values[0].diff(dim=0) > 0).all()


def test_quarter_turns_are_for_squares() -> None:
    image, mask, spec = sample("photo", 24, 32)
    assert np.array_equal(only(turn=1)(image, mask, spec, rng())[1], mask)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("flip", 1.5), ("turn", -0.1), ("affine", 2), ("intensity", float("nan")), ("noise_std", -1)),
        *(("scale", -0.2), ("coarsest", 0.5), ("cutout_boxes", 0), ("cutout_size", 1.1), ("elastic_step_px", 0)),
    ],
)
def test_arguments_out_of_range_are_refused_by_name(name: str, value: float) -> None:
    with pytest.raises(ConfigError, match=rf"augment\.{name} is out of range"):
        Augment(**{name: value})


def test_a_deformation_that_would_fold_is_refused_with_the_step_that_does_not() -> None:
    with pytest.raises(ConfigError, match=r"would fold[\s\S]*at most 15\.6 pixels[\s\S]*augment\.elastic_step_px=41"):
        Augment(elastic=0.5, elastic_px=20)
    assert Augment(elastic=0.5, elastic_px=20, elastic_step_px=41) and Augment(elastic=0.0, elastic_px=20)


def preset(name: str) -> dict[str, Any]:
    content = yaml.safe_load((CONF / f"{name}.yaml").read_text())
    return {key: value for key, value in content.items() if key != "_target_"}


def test_the_default_preset_is_that_of_the_class_and_the_others_keep_their_order() -> None:
    assert Augment(**preset("default")) == Augment()
    light, default, strong = (preset(name) for name in ("light", "default", "strong"))
    for key in (*CHANCES, *SIZES):
        assert light[key] <= default[key] <= strong[key], key
    assert {key for key in CHANCES if preset("flips")[key]} == {"flip"}
