import math

import numpy as np
import pytest
import torch

from seglab.data.augment import Augment, warp
from seglab.errors import ConfigError

OFF = {"flip": 0.0, "turn": 0.0, "affine": 0.0, "intensity": 0.0}
SIZES = [(32, 32), (40, 24), (12, 32, 32)]


def labelled(size: tuple[int, ...]) -> tuple[torch.Tensor, torch.Tensor]:
    """An image whose first channel shows the mask, so that both must move together."""
    mask = torch.zeros(size, dtype=torch.int64)
    mask[..., 3:13, 5:11] = 1
    mask[..., 5:8, 6:8] = 2
    mask[..., -4:, :] = 255
    return torch.stack([mask.float(), torch.ones(size)]), mask


def test_nothing_changes_when_all_is_off() -> None:
    image, mask = labelled((32, 24))
    moved = Augment(**OFF)(image, mask, np.random.default_rng(0))
    assert torch.equal(moved[0], image) and torch.equal(moved[1], mask)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("seed", range(6))
def test_flips_and_quarter_turns_move_image_and_mask_alike(size: tuple[int, ...], seed: int) -> None:
    image, mask = labelled(size)
    moved, labels = Augment(**OFF | {"flip": 0.5, "turn": 1.0})(image, mask, np.random.default_rng(seed))
    assert moved.shape == image.shape and torch.equal(moved[0].long(), labels)
    assert torch.equal(labels.unique(return_counts=True)[1], mask.unique(return_counts=True)[1])


def test_every_axis_is_flipped_in_half_of_the_draws() -> None:
    corner = torch.zeros((2, 2, 2), dtype=torch.int64)
    corner[0, 0, 0] = 1
    rng, places = np.random.default_rng(0), torch.zeros(2, 2, 2)
    for _ in range(400):
        places += Augment(**OFF | {"flip": 0.5})(corner[None].float(), corner, rng)[1]
    assert places.min() > 25  # 50 expected in each corner


def test_the_warp_rotates_and_enlarges_about_the_centre() -> None:
    mask = torch.zeros((41, 61), dtype=torch.int64)
    mask[20, 40] = 1  # 10 pixels right of the centre (20, 30)
    enlarged = warp(mask[None].float(), mask, 0.0, 2.0)[1]
    assert enlarged[20, 50] == 1 and enlarged.sum() in range(2, 10)
    turned = warp(mask[None].float(), mask, math.pi / 2, 1.0)[1]
    assert (turned[10, 30] + turned[30, 30]) == 1 and turned.sum() == 1  # not squeezed by the aspect ratio


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(("angle", "zoom"), [(0.4, 1.2), (-1.1, 0.8), (0.0, 1.25)])
def test_the_warp_moves_image_and_mask_alike(size: tuple[int, ...], angle: float, zoom: float) -> None:
    _, mask = labelled(size)
    mask = (mask == 1).long()
    image, labels = warp(mask[None].float(), mask, angle, zoom)
    assert image.shape == (1, *size) and labels.shape == size
    certain = (image[0] < 0.01) | (image[0] > 0.99)  # away from bilinear edges
    assert certain.float().mean() > 0.7 and torch.equal(image[0][certain].round().long(), labels[certain])


def test_the_warp_by_nothing_is_the_identity_and_a_volume_moves_slice_by_slice() -> None:
    image, mask = labelled((6, 24, 40))
    same = warp(image, mask, 0.0, 1.0)
    assert torch.allclose(same[0], image, atol=1e-3) and torch.equal(same[1], mask)
    mask[3] = 1
    moved = warp(image, mask, 0.3, 1.1)[1]
    assert (moved[3] == 1).all() and torch.equal(moved[2], warp(image[:, 2], mask[2], 0.3, 1.1)[1])


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("seed", range(8))
def test_no_label_comes_into_being_and_shapes_and_types_stay(size: tuple[int, ...], seed: int) -> None:
    image, mask = labelled(size)
    augment = Augment(flip=0.5, turn=0.5, affine=1.0, rotate_deg=90.0, scale=1.0, intensity=1.0)
    moved, labels = augment(image, mask, np.random.default_rng(seed))
    assert set(labels.unique().tolist()) <= set(mask.unique().tolist())
    assert moved.shape == image.shape and labels.shape == mask.shape
    assert moved.dtype == torch.float32 and labels.dtype == torch.int64 and moved.isfinite().all()


def test_the_generator_alone_decides() -> None:
    image, mask = labelled((32, 32))
    first, again, other = (Augment()(image, mask, np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert torch.equal(first[0], again[0]) and torch.equal(first[1], again[1])
    assert not torch.equal(first[0], other[0])


def test_the_given_tensors_are_left_alone() -> None:
    image, mask = labelled((32, 32))
    before = image.clone(), mask.clone()
    Augment(affine=1.0, intensity=1.0)(image, mask, np.random.default_rng(0))
    assert torch.equal(image, before[0]) and torch.equal(mask, before[1])


def test_brightness_and_contrast_stay_within_their_limits_and_spare_the_mask() -> None:
    image, mask = torch.ones((1, 16, 16)), torch.ones((16, 16), dtype=torch.int64)
    augment = Augment(**OFF | {"intensity": 1.0}, brightness=0.2, contrast=0.1, noise=0.0)
    values = torch.stack([augment(image, mask, np.random.default_rng(seed))[0] for seed in range(50)])
    assert 0.7 <= values.min() < 0.85 and 1.15 < values.max() <= 1.3
    assert (values.std(dim=(1, 2, 3)) < 1e-6).all()


@pytest.mark.parametrize(
    ("name", "value"),
    [("flip", 1.5), ("turn", -0.1), ("affine", 2), ("intensity", float("nan")), ("noise", -1), ("scale", -0.2)],
)
def test_arguments_out_of_range_are_refused_by_name(name: str, value: float) -> None:
    with pytest.raises(ConfigError, match=rf"augment\.{name} is out of range"):
        Augment(**{name: value})
