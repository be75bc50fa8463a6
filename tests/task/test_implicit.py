"""ImplicitTask: learns from points of each patch, and predicts coarse to fine in windows of the patch size."""

from typing import Any

import pytest
import torch
from parts import convolutions, gradients_of, make_batch, make_parts, make_spec, small_unet, train
from torch import Tensor

from seglab.errors import ConfigError
from seglab.nets.implicit_unet import ImplicitUNet
from seglab.task.implicit import ImplicitTask

SPEC = make_spec()


def make_task(dims: int = 2, n_poolings: int = 2, **options: Any) -> ImplicitTask:
    torch.manual_seed(0)
    spec = make_spec(dims)
    sizes = {"in_channels": 1, "num_classes": 3, "spatial_dims": dims}
    net = ImplicitUNet(**sizes, base_channels=4, n_poolings=n_poolings)
    parts = make_parts(net, spec, optimizer=lambda groups: torch.optim.Adam(groups, lr=0.03))
    return ImplicitTask(parts, **({"n_points": 200} | options)).train()


def decoded(task: ImplicitTask) -> list[Tensor]:
    """The points that the network will be asked for, (N, P, D) each, filled as it is used."""
    points: list[Tensor] = []
    task.net.decoder.register_forward_pre_hook(lambda _, inputs: points.append(inputs[1]))
    return points


def test_the_loss_on_points_decreases() -> None:
    task, batch = make_task(), make_batch(SPEC)
    before = task.training_losses(batch)["loss"].item()
    train(task, batch, n_steps=40)
    assert task.training_losses(batch)["loss"].item() < 0.5 * before


@pytest.mark.parametrize("dims", [2, 3])
def test_every_level_of_the_encoder_and_every_perceptron_learns(dims: int) -> None:
    task = make_task(dims, n_points=50)
    losses = task.training_losses(make_batch(task.spec, (16,) * dims))
    assert set(losses) == {"loss", "dice", "ce"}
    found = gradients_of(losses["loss"], task.net)
    assert found.keys() == dict(task.net.named_parameters()).keys()
    assert all(found[f"{name}.weight"].any() for name in convolutions(task.net))


def test_as_many_points_as_asked_for_are_decoded_instead_of_the_whole_patch() -> None:
    task = make_task(n_points=123)
    points = decoded(task)
    task.training_losses(make_batch(SPEC))
    assert [tuple(each.shape) for each in points] == [(2, 123, 2)]


def test_a_patch_that_is_padded_is_asked_for_its_own_pixels_only() -> None:
    """40 x 56 pixels are padded to 48 x 64, by four pixels on each side."""
    task = make_task(n_poolings=4, n_points=4000)
    points = decoded(task)
    losses = task.training_losses(make_batch(SPEC, (40, 56)))
    assert losses["loss"].isfinite() and losses["dice"] > 0
    largest = points[0].abs().amax(dim=(0, 1))
    torch.testing.assert_close(largest, torch.tensor([39 / 48, 55 / 64]))
    assert task.eval()(torch.rand(1, 1, 40, 56)).shape == (1, 3, 40, 56)


def test_points_of_a_padded_patch_have_the_labels_of_its_pixels() -> None:
    """With the classes in stripes along the first axis, a point's coordinate tells its label."""
    task = make_task(n_poolings=4, n_points=500)
    points, labels = decoded(task), []
    task.loss.register_forward_pre_hook(lambda _, inputs: labels.append(inputs[1]))
    mask = (torch.arange(40) // 14)[None, :, None].expand(2, 40, 40).contiguous()
    task.training_losses({"image": torch.rand(2, 1, 40, 40), "mask": mask, "case": ["a", "b"]})
    rows = ((points[0][..., 0] + 1) * 48 - 1) / 2 - 4
    assert torch.equal(rows.round().long() // 14, labels[0])


def test_points_are_drawn_anew_at_each_step_and_alike_in_a_repetition() -> None:
    drawn = []
    for _ in range(2):
        task = make_task()
        drawn.append(decoded(task))
        train(task, make_batch(SPEC), n_steps=2)
    first, again = drawn
    assert len(first) == 2 and not torch.equal(first[0], first[1])
    assert all(map(torch.equal, first, again))


def sure(task: ImplicitTask) -> ImplicitTask:
    """With a network that is so sure of one class that nothing is refined."""
    task.net.decoder.head.bias.data = torch.tensor([30.0, 0.0, 0.0])
    return task


def test_coarse_to_fine_is_for_evaluation_only() -> None:
    task, image = sure(make_task()), torch.rand(2, 1, 32, 32)
    dense, (coarse, n_points) = task.net(image), task.net.predict_coarse_to_fine(image)
    assert n_points < 0.1 * image.numel() and not torch.allclose(coarse, dense, atol=1e-3)
    assert torch.equal(task.train()(image), dense) and task(image).requires_grad
    assert torch.equal(task.eval()(image), coarse)
    everywhere = sure(make_task(coarse_to_fine=False))
    assert torch.equal(everywhere.eval()(image), dense)


@pytest.mark.parametrize("dims", [2, 3])
def test_a_larger_case_is_covered_by_windows_of_the_patch_size(dims: int) -> None:
    task = make_task(dims).eval()
    sizes: list[tuple[int, ...]] = []
    task.net.encoder[0].register_forward_pre_hook(lambda _, inputs: sizes.append(tuple(inputs[0].shape[2:])))
    assert task.predict_labels(torch.rand(1, 1 if dims == 2 else 32, 50, 40)).shape == (1 if dims == 2 else 32, 50, 40)
    assert set(sizes) == {(32,) * dims}


def test_validation_covers_each_image_by_windows_and_compares_all_its_pixels() -> None:
    task, batch = make_task().eval(), make_batch(SPEC, (50, 40))
    logits, losses = task.validation_losses(batch)
    assert logits.shape == (2, 3, 50, 40)
    torch.testing.assert_close(losses, task.loss(logits, batch["mask"]))
    pred = logits.argmax(1)
    assert torch.equal(pred[0].to(torch.uint8), task.predict_labels(batch["image"][0][:, None])[0])


def test_a_network_that_decodes_no_points_and_too_few_points_are_refused() -> None:
    with pytest.raises(ConfigError, match="set model=implicit_unet"):
        ImplicitTask(make_parts(small_unet(SPEC), SPEC))
    with pytest.raises(ConfigError, match=r"task\.n_points=1"):
        make_task(n_points=1)
