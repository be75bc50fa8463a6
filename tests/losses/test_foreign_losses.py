"""Losses of SMP and MONAI as terms of a run: values as theirs, ignored pixels as far as they can be kept out."""

import pytest
import torch
import torch.nn.functional as F
from monai.losses import DiceCELoss, DiceLoss
from segmentation_models_pytorch.losses import LovaszLoss
from torch import Tensor

from seglab.errors import ShapeError
from seglab.losses.composite import CompositeLoss
from seglab.losses.monai import MonaiLoss
from seglab.spec import IGNORE_INDEX


def random_case(*, ignored: bool, spatial: tuple[int, ...] = (6, 5)) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    logits = 2 * torch.randn(2, 3, *spatial, generator=generator)
    mask = torch.randint(0, 3, (2, *spatial), generator=generator)
    if ignored:
        mask[torch.rand(mask.shape, generator=generator) < 0.3] = IGNORE_INDEX
    return logits.requires_grad_(), mask


def lovasz() -> CompositeLoss:
    term = LovaszLoss(mode="multiclass", ignore_index=IGNORE_INDEX)
    return CompositeLoss({"lovasz": term}, {"lovasz": 1.0})


def dice_ce() -> CompositeLoss:
    term = MonaiLoss(loss=DiceCELoss(to_onehot_y=True, softmax=True))
    return CompositeLoss({"dice_ce": term}, {"dice_ce": 1.0})


BOTH = pytest.mark.parametrize("loss", [lovasz(), dice_ce()], ids=["lovasz", "dice_ce"])


@pytest.mark.parametrize("spatial", [(6, 5), (3, 4, 5)])
def test_without_ignored_pixels_the_value_is_monais(spatial: tuple[int, ...]) -> None:
    logits, mask = random_case(ignored=False, spatial=spatial)
    expected = DiceCELoss(to_onehot_y=True, softmax=True)(logits, mask.unsqueeze(1))
    assert torch.equal(dice_ce()(logits, mask)["loss"], expected)


@BOTH
def test_logits_of_ignored_pixels_change_neither_value_nor_gradient(loss: CompositeLoss) -> None:
    logits, mask = random_case(ignored=True)
    ignored = (mask == IGNORE_INDEX).unsqueeze(1).expand_as(logits)
    other = torch.where(ignored, 50 * torch.randn_like(logits), logits).detach().requires_grad_()
    values = [loss(given, mask)["loss"] for given in (logits, other)]
    sum(values).backward()
    assert torch.equal(*values) and torch.equal(logits.grad, other.grad)
    assert logits.grad[ignored].eq(0).all() and logits.grad[~ignored].ne(0).any()


@BOTH
def test_a_batch_of_ignored_pixels_only_gives_no_gradient_and_next_to_no_loss(loss: CompositeLoss) -> None:
    logits, mask = random_case(ignored=False)
    values = loss(logits, torch.full_like(mask, IGNORE_INDEX))
    values["loss"].backward()
    assert all(value.ndim == 0 and 0 <= value.item() < 1e-3 for value in values.values())
    assert logits.grad.eq(0).all()


@BOTH
def test_half_logits_are_worked_on_in_float32(loss: CompositeLoss) -> None:
    logits, mask = random_case(ignored=True)
    half = logits.detach().bfloat16()
    value = loss(half, mask)["loss"]
    assert value.dtype == torch.float32 and torch.equal(value, loss(half.float(), mask)["loss"])


def test_foreground_dice_of_monai_is_that_of_the_valid_pixels() -> None:
    logits, mask = random_case(ignored=True)
    options = {"include_background": False, "to_onehot_y": True, "softmax": True, "batch": True}
    value = MonaiLoss(loss=DiceLoss(**options))(logits, mask)
    keep = mask != IGNORE_INDEX
    probs = logits.softmax(dim=1).movedim(1, -1)[keep]
    truth = F.one_hot(mask[keep], 3)
    expected = 1 - (2 * (probs * truth).sum(0) + 1e-5) / (probs.sum(0) + truth.sum(0) + 1e-5)
    torch.testing.assert_close(value, expected[1:].mean())


def test_ignored_pixels_are_certain_background_for_a_sigmoid_too() -> None:
    logits, mask = random_case(ignored=False)
    value = MonaiLoss(loss=DiceLoss(to_onehot_y=True, sigmoid=True))(logits, torch.full_like(mask, IGNORE_INDEX))
    assert value.item() == pytest.approx(0, abs=1e-4)


def test_cross_entropy_of_monai_is_diluted_by_the_share_of_ignored_pixels() -> None:
    logits, mask = random_case(ignored=True)
    value = MonaiLoss(loss=DiceCELoss(to_onehot_y=True, softmax=True, lambda_dice=0.0))(logits, mask)
    share = (mask != IGNORE_INDEX).float().mean()
    torch.testing.assert_close(value, share * F.cross_entropy(logits, mask, ignore_index=IGNORE_INDEX))


def test_lovasz_of_a_certain_prediction_is_the_jaccard_loss() -> None:
    mask, pred = torch.randint(0, 2, (2, 1, 6, 6), generator=torch.Generator().manual_seed(0))
    certain = 100.0 * F.one_hot(pred, 2).movedim(-1, 1)
    scores = [((mask == k) & (pred == k)).sum() / ((mask == k) | (pred == k)).sum() for k in (0, 1)]
    torch.testing.assert_close(lovasz()(certain, mask)["loss"], 1 - torch.stack(scores).mean())


def test_logits_that_do_not_fit_are_refused_before_the_foreign_loss_sees_them() -> None:
    for loss in (lovasz(), dice_ce()):
        with pytest.raises(ShapeError, match="logits and mask do not fit"):
            loss(torch.zeros(2, 3, 4, 4), torch.zeros(2, 4, 5, dtype=torch.int64))
