"""Soft clDice: skeletons against scipy's morphology, the formula, and what it is for."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy import ndimage

from seglab.losses.cldice import ClDiceLoss, soft_skeleton
from seglab.losses.overlap import DiceLoss
from seglab.spec import IGNORE_INDEX


def twin_skeleton(image: np.ndarray, n_iterations: int) -> np.ndarray:
    """Algorithm 1 by scipy's grey morphology."""
    cross = ndimage.generate_binary_structure(image.ndim, 1)
    ball = np.ones((3,) * image.ndim)
    # beyond the border nothing counts, which is scipy's "nearest" for a window of three
    erode = lambda x: ndimage.grey_erosion(x, footprint=cross, mode="nearest")  # noqa: E731
    opened = lambda x: ndimage.grey_dilation(erode(x), footprint=ball, mode="nearest")  # noqa: E731
    skeleton = np.maximum(image - opened(image), 0)
    for _ in range(n_iterations):
        image = erode(image)
        delta = np.maximum(image - opened(image), 0)
        skeleton = skeleton + np.maximum(delta - skeleton * delta, 0)
    return skeleton


@pytest.mark.parametrize("shape", [(11, 14), (7, 8, 9)])
def test_skeleton_is_its_slow_twin_in_2d_and_3d(shape: tuple[int, ...]) -> None:
    image = torch.rand(2, 3, *shape, generator=torch.Generator().manual_seed(0))
    skeleton = soft_skeleton(image, 3)
    for n in range(2):
        for k in range(3):
            np.testing.assert_allclose(skeleton[n, k].numpy(), twin_skeleton(image[n, k].numpy(), 3), atol=1e-6)


def test_skeleton_of_a_bar_is_its_middle_line() -> None:
    bar = torch.zeros(1, 1, 11, 20)
    bar[..., 3:8, :] = 1
    middle = torch.zeros_like(bar)
    middle[..., 5, :] = 1
    assert torch.equal(soft_skeleton(bar, 5), middle)


def test_cldice_follows_its_formula() -> None:
    generator = torch.Generator().manual_seed(1)
    mask = torch.randint(0, 3, (2, 7, 9), generator=generator)
    mask[torch.rand(mask.shape, generator=generator) < 0.2] = IGNORE_INDEX
    logits = 2 * torch.randn(2, 3, 7, 9, generator=generator)
    probs = logits.softmax(dim=1).masked_fill((mask == IGNORE_INDEX).unsqueeze(1), 0).double().numpy()
    losses = []
    for k in (1, 2):
        truth = (mask == k).double().numpy()
        skeletons = [np.stack([twin_skeleton(one, 2) for one in maps]) for maps in (probs[:, k], truth)]
        precision = ((skeletons[0] * truth).sum() + 1) / (skeletons[0].sum() + 1)
        recall = ((skeletons[1] * probs[:, k]).sum() + 1) / (skeletons[1].sum() + 1)
        losses.append(1 - 2 * precision * recall / (precision + recall))
    assert ClDiceLoss(n_iterations=2)(logits, mask).item() == pytest.approx(np.mean(losses), abs=1e-6)


def test_a_torn_line_costs_more_cldice_than_a_thin_one_and_less_dice() -> None:
    mask = torch.zeros(1, 15, 32, dtype=torch.int64)
    mask[:, 5:10] = 1
    thin, torn = mask.clone(), mask.clone()
    thin[:, [5, 9]] = 0
    torn[:, :, 12:20] = 0
    cldice, dice = (
        [loss(100.0 * F.one_hot(pred, 2).movedim(-1, 1), mask).item() for pred in (thin, torn)]
        for loss in (ClDiceLoss(), DiceLoss())
    )
    assert cldice[0] == pytest.approx(0, abs=1e-6) and cldice[1] > 0.1
    assert dice[0] > dice[1]
