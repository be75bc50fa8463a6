"""DistillationTask: what the student learns from mask and teacher, and that the teacher never changes."""

from copy import deepcopy
from typing import Any

import pytest
import torch
from parts import constant_logits, cross_entropy, gradients_of, make_batch, make_parts, make_spec, small_unet, train
from torch import Tensor

from seglab.errors import ConfigError
from seglab.nets.unet import UNet
from seglab.spec import IGNORE_INDEX
from seglab.task.distillation import DistillationTask
from seglab.task.segmentation import SegmentationTask

SPEC = make_spec()


def unet(width: int = 2, **options: Any) -> UNet:
    return small_unet(SPEC, width, **({"n_poolings": 2, "norm": "batch"} | options))


def make_task(student: UNet, teacher: UNet, **options: Any) -> DistillationTask:
    torch.manual_seed(0)
    task = DistillationTask(make_parts(student, SPEC, cross_entropy()), **options)
    task.use_first(teacher)
    return task.train()


def state(net: UNet) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in net.state_dict().items()}


def is_same(one: dict[str, Tensor], two: dict[str, Tensor]) -> bool:
    return one.keys() == two.keys() and all(torch.equal(one[name], two[name]) for name in one)


def test_the_teacher_is_frozen_in_eval_mode_and_no_part_of_the_checkpoint() -> None:
    teacher = unet(4).train()
    task = make_task(unet(), teacher)
    assert not any(module.training for module in teacher.modules())
    assert not any(parameter.requires_grad for parameter in teacher.parameters())
    assert task.state_dict().keys() == SegmentationTask(make_parts(unet(), SPEC)).state_dict().keys()
    assert {id(parameter) for parameter in task.parameters()} == {id(parameter) for parameter in task.net.parameters()}


def test_steps_of_the_student_change_nothing_in_the_teacher() -> None:
    student, teacher = unet(), unet(4)
    task = make_task(student, teacher)
    before = state(student), state(teacher)
    train(task, make_batch(SPEC), n_steps=2)
    assert is_same(state(teacher), before[1]), "neither weights nor running statistics"
    assert all(parameter.grad is None for parameter in teacher.parameters())
    assert not any(module.training for module in teacher.modules())
    assert not is_same(state(student), before[0])
    assert student.state_dict()["encoder.0.first.norm.num_batches_tracked"] == 2


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"hard_weight": 1.0, "soft_weight": 1.0}, 2.747452),
        ({"hard_weight": 0.0, "soft_weight": 1.0}, 2.434191),
        ({"hard_weight": 1.0, "soft_weight": 0.0}, 0.313262),
        ({"hard_weight": 0.5, "soft_weight": 2.0}, 0.5 * 0.313262 + 2 * 2.434191),
        ({"hard_weight": 0.0, "soft_weight": 1.0, "kind": "kl"}, 0.105378),
    ],
)
def test_hand_case(options: dict[str, Any], expected: float) -> None:
    """Teacher (2, 0), student (1, 0), T = 2, label 0; the soft loss counts T^2 times."""
    spec = make_spec(num_classes=2)
    student, teacher = (constant_logits(small_unet(spec, 2), logits) for logits in ((1.0, 0.0), (2.0, 0.0)))
    task = DistillationTask(make_parts(student, spec, cross_entropy()), temperature=2.0, **options)
    task.use_first(teacher)
    parts = task.training_losses({"image": torch.rand(2, 1, 20, 9), "mask": torch.zeros(2, 20, 9, dtype=torch.int64)})
    assert parts["loss"].item() == pytest.approx(expected, abs=2e-6)
    assert parts["hard"].item() == parts["ce"].item() == pytest.approx(0.313262, abs=1e-6)
    assert parts["soft"].item() == pytest.approx(0.105378 if "kind" in options else 2.434191, abs=1e-6)


@pytest.mark.parametrize("kind", ["ce", "kl"])
def test_a_student_that_equals_its_teacher_has_nothing_to_learn(kind: str) -> None:
    student = unet(norm=None)
    task = make_task(student, deepcopy(student), kind=kind, hard_weight=0.0)
    loss = task.training_losses(make_batch(SPEC))["loss"]
    assert (abs(loss.item()) < 1e-6) == (kind == "kl")
    assert max(gradient.abs().max() for gradient in gradients_of(loss, student).values()) < 1e-6


def test_soft_only_never_looks_at_the_classes_hard_only_never_at_the_teacher_and_both_add_up() -> None:
    student, teachers, batch = unet(), [unet(4), unet(4)], make_batch(SPEC)
    other = {**batch, "mask": (batch["mask"] + 1) % 3}

    def learned(batch: dict[str, Any], teacher: UNet, hard: float, soft: float) -> dict[str, Tensor]:
        task = make_task(student, teacher, hard_weight=hard, soft_weight=soft)
        return gradients_of(task.training_losses(batch)["loss"], student)

    soft, hard = learned(batch, teachers[0], 0, 1), learned(batch, teachers[0], 1, 0)
    assert is_same(soft, learned(other, teachers[0], 0, 1)) and not is_same(soft, learned(batch, teachers[1], 0, 1))
    assert is_same(hard, learned(batch, teachers[1], 1, 0)) and not is_same(hard, learned(other, teachers[0], 1, 0))
    for name, gradient in learned(batch, teachers[0], 2, 3).items():
        torch.testing.assert_close(gradient, 2 * hard[name] + 3 * soft[name], rtol=1e-4, atol=1e-5)


def test_ignored_pixels_teach_nothing() -> None:
    student, batch = unet(norm=None), make_batch(SPEC)
    ignored = {**batch, "mask": torch.full_like(batch["mask"], IGNORE_INDEX)}
    task = make_task(student, unet(4))
    losses = task.training_losses(ignored)
    assert losses["soft"].item() == losses["loss"].item() == 0
    assert not any(gradient.any() for gradient in gradients_of(losses["loss"], student).values())


def test_a_teacher_of_other_depth_teaches_patches_of_any_size() -> None:
    task = make_task(unet(n_poolings=1), unet(n_poolings=4))
    assert task.training_losses(make_batch(SPEC, (37, 22)))["loss"].isfinite()
    assert task.teach(torch.rand(2, 1, 37, 22)).shape == (2, 3, 37, 22)


@pytest.mark.parametrize(("channels", "num_classes", "dims"), [(3, 3, 2), (1, 2, 2), (1, 3, 3)])
def test_a_teacher_for_other_data_is_refused(channels: int, num_classes: int, dims: int) -> None:
    teacher = small_unet(make_spec(dims, channels, num_classes=num_classes), 1, n_poolings=1)
    with pytest.raises(ConfigError, match="the teacher was trained for other data") as caught:
        make_task(unet(), teacher)
    assert caught.value.given == f"{channels} channels, {num_classes} classes, {dims} dimensions"


@pytest.mark.parametrize(("hard", "soft"), [(0.0, 0.0), (-1.0, 1.0), (1.0, -0.5)])
def test_weights_that_mean_nothing_are_refused(hard: float, soft: float) -> None:
    with pytest.raises(ConfigError, match=f"task.hard_weight={hard}, task.soft_weight={soft}"):
        make_task(unet(), unet(), hard_weight=hard, soft_weight=soft)
