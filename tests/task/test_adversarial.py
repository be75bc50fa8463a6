"""AdversarialTask: two players in one step, and neither moves the other."""

import math
from typing import Any

import pytest
import torch
from parts import gradients, gradients_of, make_batch, make_parts, make_spec, small_unet, train
from torch import Tensor, nn

from seglab.errors import ConfigError
from seglab.spec import IGNORE_INDEX
from seglab.task.adversarial import AdversarialTask
from seglab.task.segmentation import SegmentationTask

SPEC = make_spec()


def make_task(dims: int = 2, **options: Any) -> AdversarialTask:
    torch.manual_seed(0)
    spec = make_spec(dims)
    net = small_unet(spec, 2, n_poolings=2, norm="batch")
    parts = make_parts(net, spec, optimizer=lambda groups: torch.optim.SGD(groups, lr=0.5))
    return AdversarialTask(parts, **({"base_channels": 2, "n_layers": 2} | options)).train()


def judged(task: AdversarialTask, batch: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
    """Both players' losses on what the network predicts."""
    probs = task(batch["image"]).softmax(dim=1)
    seen = batch["image"], probs, batch["mask"]
    return task.generator_loss(*seen), task.discriminator_loss(*seen)


def weights(module: nn.Module) -> list[Tensor]:
    return [parameter.detach().clone() for parameter in module.parameters()]


def moved(before: list[Tensor], module: nn.Module) -> list[bool]:
    return [not torch.equal(one, two) for one, two in zip(before, module.parameters(), strict=True)]


def test_a_step_of_the_network_leaves_the_discriminator_untouched() -> None:
    task = make_task()
    before = weights(task.net), weights(task.discriminator)
    judged(task, make_batch(SPEC))[0].backward()
    assert not gradients(task.discriminator)
    torch.optim.SGD(task.parameters(), lr=100.0).step()
    assert any(moved(before[0], task.net)) and not any(moved(before[1], task.discriminator))


def test_a_step_of_the_discriminator_leaves_the_network_untouched() -> None:
    task = make_task()
    before = weights(task.net), weights(task.discriminator)
    judged(task, make_batch(SPEC))[1].backward()
    assert not gradients(task.net)
    torch.optim.SGD(task.parameters(), lr=100.0).step()
    assert all(moved(before[1], task.discriminator)) and not any(moved(before[0], task.net))


def test_in_the_sum_each_player_gets_its_own_part_of_the_loss() -> None:
    task, batch = make_task(weight=0.3), make_batch(SPEC)
    total = gradients_of(task.training_losses(batch)["loss"], task)
    generator = gradients_of(judged(task, batch)[0], task)
    discriminator = gradients_of(judged(task, batch)[1], task.discriminator)
    plain = gradients_of(task.loss(task(batch["image"]), batch["mask"])["loss"], task.net)
    for name, gradient in discriminator.items():
        torch.testing.assert_close(total[f"discriminator.{name}"], gradient)
    for name, gradient in plain.items():
        expected = gradient + 0.3 * generator[f"net.{name}"]
        torch.testing.assert_close(total[f"net.{name}"], expected, rtol=1e-4, atol=1e-6)
    assert len(total) == len(discriminator) + len(plain)


def test_without_weight_the_network_learns_as_in_plain_training() -> None:
    task, batch = make_task(weight=0.0), make_batch(SPEC)
    plain = SegmentationTask(make_parts(task.net, SPEC)).train()
    expected = gradients_of(plain.training_losses(batch)["loss"], task.net)
    found = gradients_of(task.training_losses(batch)["loss"], task.net)
    torch.testing.assert_close(found, expected)


def test_an_undecided_discriminator_costs_both_players_ln_2() -> None:
    task = make_task(weight=2.0)
    nn.init.zeros_(task.discriminator.layers[-1].weight)
    nn.init.zeros_(task.discriminator.layers[-1].bias)
    losses = task.training_losses(make_batch(SPEC))
    assert losses["generator"].item() == losses["discriminator"].item() == pytest.approx(math.log(2))
    assert losses["loss"].item() == pytest.approx((losses["dice"] + losses["ce"]).item() + 3 * math.log(2))


def test_a_sure_discriminator_costs_the_network_much_and_itself_half_where_it_is_wrong() -> None:
    task = make_task()
    nn.init.zeros_(task.discriminator.layers[-1].weight)
    task.discriminator.layers[-1].bias.data = torch.tensor([-8.0])  # "made up", whatever it sees
    generator, discriminator = judged(task, make_batch(SPEC))
    assert generator.item() == pytest.approx(8.0, abs=1e-3) and discriminator.item() == pytest.approx(4.0, abs=1e-3)


def test_ignored_pixels_change_neither_players_loss() -> None:
    task, batch = make_task(), make_batch(SPEC)
    batch["mask"][:, :9] = IGNORE_INDEX
    probs = task(batch["image"]).softmax(dim=1).detach()
    others = probs.clone()
    others[:, :, :9] = probs[:, [1, 2, 0], :9]
    losses = [
        (task.generator_loss(batch["image"], each, batch["mask"]).item(),
         task.discriminator_loss(batch["image"], each, batch["mask"]).item())
        for each in (probs, others)
    ]  # fmt: skip
    assert losses[0] == losses[1]


def test_the_discriminator_learns_at_a_share_of_the_learning_rate() -> None:
    task = make_task(lr_factor=0.2)
    optimizer = task.make_optimizer(task.parameter_groups())
    assert [group["lr"] for group in optimizer.param_groups] == [0.5, pytest.approx(0.1)]
    in_groups = {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}
    assert in_groups == {id(parameter) for parameter in task.parameters()}


def test_both_players_move_in_a_training_and_are_kept_in_its_checkpoint() -> None:
    task = make_task()
    before = weights(task.net), weights(task.discriminator)
    train(task, make_batch(SPEC, (37, 33)), n_steps=2)
    assert any(moved(before[0], task.net)) and all(moved(before[1], task.discriminator))
    assert any(name.startswith("discriminator.") for name in task.state_dict())


def test_the_discriminator_learns_to_tell_predictions_from_masks() -> None:
    task, batch = make_task(base_channels=4), make_batch(SPEC)
    optimizer, losses = torch.optim.Adam(task.discriminator.parameters(), lr=0.01), []
    for _ in range(10):
        optimizer.zero_grad()
        losses.append(judged(task, batch)[1])
        losses[-1].backward()
        optimizer.step()
    assert losses[-1].item() < 0.2 < losses[0].item()


def test_volumes_are_judged_too() -> None:
    task = make_task(dims=3, n_layers=1)
    losses = task.training_losses(make_batch(make_spec(dims=3), (16, 20, 17)))
    assert losses["loss"].isfinite() and losses["discriminator"] > 0


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"weight": -0.1}, "task.weight=-0.1"),
        ({"lr_factor": 0.0}, "task.lr_factor=0.0"),
        ({"n_layers": 4}, "for n_layers=4 patches from 64 px"),
        ({"n_layers": 0}, "n_layers=0"),
    ],
)
def test_a_discriminator_that_cannot_be_trained_is_refused(options: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        make_task(**options)


@pytest.mark.parametrize(("n_layers", "smallest"), [(1, 8), (2, 16), (3, 32)])
def test_the_smallest_patch_that_is_allowed_can_be_judged(n_layers: int, smallest: int) -> None:
    task = make_task(n_layers=n_layers)
    assert task.training_losses(make_batch(SPEC, (smallest, smallest)))["loss"].isfinite()
