"""Distillation: hand cases, the closed-form slope, what the teacher and ignored pixels may not do."""

from itertools import product

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from seglab.errors import ConfigError, ShapeError
from seglab.losses.distillation import DistillationLoss
from seglab.losses.pixelwise import CrossEntropyLoss
from seglab.spec import IGNORE_INDEX

KINDS = pytest.mark.parametrize("kind", ["ce", "kl"])


def random_case(dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    student, teacher = 3 * torch.randn(2, 2, 3, 4, 5, generator=generator, dtype=dtype)
    mask = torch.randint(0, 3, (2, 4, 5), generator=generator)
    mask[torch.rand(mask.shape, generator=generator) < 0.3] = IGNORE_INDEX
    return student.requires_grad_(), teacher, mask


@pytest.mark.parametrize(("kind", "expected"), [("ce", 2.434191), ("kl", 0.105378)])
def test_hand_case(kind: str, expected: float) -> None:
    student, teacher = (torch.tensor([first, 0.0]).view(1, 2, 1, 1) for first in (1.0, 2.0))
    mask = torch.zeros(1, 1, 1, dtype=torch.int64)
    soft = DistillationLoss(temperature=2.0, kind=kind)(student, teacher, mask)
    assert soft.item() == pytest.approx(expected, abs=1e-6)
    if kind == "ce":
        assert soft.item() / 4 == pytest.approx(0.608548, abs=1e-6)
        assert (soft + CrossEntropyLoss()(student, mask)).item() == pytest.approx(2.747452, abs=1e-6)


@KINDS
def test_slope_is_temperature_times_the_difference_of_the_soft_labels(kind: str) -> None:
    student, teacher, mask = random_case(torch.float64)
    DistillationLoss(temperature=5.0, kind=kind)(student, teacher, mask).backward()
    valid = (mask != IGNORE_INDEX).unsqueeze(1)
    expected = 5 * ((student / 5).softmax(dim=1) - (teacher / 5).softmax(dim=1)) * valid / valid.sum()
    torch.testing.assert_close(student.grad, expected.detach())


@KINDS
def test_it_is_the_mean_of_torch_over_valid_pixels(kind: str) -> None:
    student, teacher, mask = random_case()
    keep = mask != IGNORE_INDEX
    log_p, q = ((x.detach().movedim(1, -1)[keep] / 3) for x in (student, teacher))  # (pixels, K)
    torch_loss = F.kl_div if kind == "kl" else None
    expected = (
        torch_loss(log_p.log_softmax(-1), q.softmax(-1), reduction="batchmean")
        if torch_loss
        else F.cross_entropy(log_p, q.softmax(-1))
    )
    torch.testing.assert_close(DistillationLoss(temperature=3.0, kind=kind)(student, teacher, mask), 9 * expected)


def test_equal_logits_give_zero_kl_and_zero_slope() -> None:
    student, _, mask = random_case()
    value = DistillationLoss(kind="kl")(student, student.detach().clone(), mask)
    value.backward()
    assert value.item() == 0 and student.grad.abs().max() < 1e-7


@KINDS
def test_ignored_pixels_change_nothing_and_the_teacher_gets_no_gradient(kind: str) -> None:
    student, teacher, mask = random_case()
    teacher.requires_grad_()
    ignored = (mask == IGNORE_INDEX).unsqueeze(1)
    loss = DistillationLoss(kind=kind)
    value = loss(student, teacher, mask)
    value.backward()
    assert teacher.grad is None
    assert student.grad.masked_select(ignored).eq(0).all() and student.grad.ne(0).any()
    others = (torch.where(ignored, 50 * torch.randn_like(x), x) for x in (student, teacher))
    assert torch.equal(loss(*others, mask), value)


@KINDS
def test_only_ignored_pixels_give_zero(kind: str) -> None:
    student, teacher, mask = random_case()
    value = DistillationLoss(kind=kind)(student, teacher, torch.full_like(mask, IGNORE_INDEX))
    value.backward()
    assert value.item() == 0 and student.grad.eq(0).all()


@KINDS
def test_extreme_logits_stay_finite(kind: str) -> None:
    mask = torch.zeros(1, 1, 1, dtype=torch.int64)
    for one, other in product((-1e4, 0.0, 1e4), repeat=2):
        student = torch.tensor([one, 0.0]).view(1, 2, 1, 1).requires_grad_()
        value = DistillationLoss(temperature=1.0, kind=kind)(student, torch.tensor([other, 0.0]).view(1, 2, 1, 1), mask)
        value.backward()
        assert value.isfinite() and student.grad.isfinite().all()


def test_half_logits_are_worked_on_in_float32() -> None:
    student, teacher, mask = random_case()
    halves = student.bfloat16(), teacher.bfloat16()
    value = DistillationLoss()(*halves, mask)
    assert value.dtype == torch.float32
    assert torch.equal(value, DistillationLoss()(*(half.float() for half in halves), mask))


def test_ill_arguments_and_shapes_are_refused() -> None:
    with pytest.raises(ConfigError, match="temperature=0"):
        DistillationLoss(temperature=0)
    with pytest.raises(ConfigError, match="ce or kl"):
        DistillationLoss(kind="mse")  # type: ignore[arg-type]
    student, teacher, mask = random_case()
    with pytest.raises(ShapeError, match="student and teacher do not fit"):
        DistillationLoss()(student, teacher[:, :2], mask)
    with pytest.raises(ShapeError, match="logits and mask do not fit"):
        DistillationLoss()(student, teacher, mask[:1])
