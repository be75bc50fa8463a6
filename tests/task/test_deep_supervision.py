"""DeepSupervisionTask: a loss of its own for each head, weighed, and nothing beside."""

from typing import Any

import pytest
import torch
from parts import gradients_of, make_batch, make_parts, make_spec, small_unet

from seglab.errors import ConfigError
from seglab.nets.attention_unet import AttentionUNet
from seglab.nets.base import SegmentationNet
from seglab.nets.unetpp import UNetPlusPlus
from seglab.task.deep_supervision import DeepSupervisionTask
from seglab.task.segmentation import SegmentationTask

SPEC = make_spec()
SIZES = {"in_channels": 1, "num_classes": 3, "spatial_dims": 2, "base_channels": 2}


def unetpp(**options: Any) -> UNetPlusPlus:
    torch.manual_seed(0)
    return UNetPlusPlus(deep_supervision=True, **SIZES, **options)


def grid3d() -> AttentionUNet:
    torch.manual_seed(0)
    return AttentionUNet(form="grid3d", **SIZES)


def make_task(net: SegmentationNet, weights: list[float] | None = None) -> DeepSupervisionTask:
    return DeepSupervisionTask(make_parts(net, SPEC), head_weights=weights).train()


networks = pytest.mark.parametrize(("make_net", "n_heads"), [(unetpp, 4), (grid3d, 5)])


@networks
@pytest.mark.parametrize("size", [(32, 32), (37, 50)])
def test_every_head_has_the_loss_of_its_own_logits(make_net: Any, n_heads: int, size: tuple[int, int]) -> None:
    task, batch = make_task(make_net()), make_batch(SPEC, size)
    losses = task.training_losses(batch)
    assert list(losses) == ["loss", *(f"head_{number}" for number in range(1, n_heads + 1))]
    heads = task.net.forward_heads(task.padded(batch["image"]))
    for number, logits in enumerate(heads, start=1):
        top, left = ((large - small) // 2 for large, small in zip(logits.shape[2:], size, strict=True))
        cropped = logits[:, :, top : top + size[0], left : left + size[1]]
        torch.testing.assert_close(losses[f"head_{number}"], task.loss(cropped, batch["mask"])["loss"])
    torch.testing.assert_close(losses[f"head_{n_heads}"], task.loss(task(batch["image"]), batch["mask"])["loss"])
    torch.testing.assert_close(losses["loss"], sum(list(losses.values())[1:]) / n_heads)


@networks
def test_every_parameter_learns(make_net: Any, n_heads: int) -> None:
    task = make_task(make_net())
    found = gradients_of(task.training_losses(make_batch(SPEC))["loss"], task.net)
    assert found.keys() == dict(task.net.named_parameters()).keys()
    assert all(gradient.isfinite().all() for gradient in found.values())
    assert all(gradient.any() for name, gradient in found.items() if not name.endswith("bias"))


@pytest.mark.parametrize("scale", [1.0, 10.0])
def test_only_the_ratio_of_the_weights_matters(scale: float) -> None:
    task = make_task(unetpp(), [1 * scale, 0, 2 * scale, 5 * scale])
    assert task.head_weights == [0.125, 0.0, 0.25, 0.625]
    losses = task.training_losses(make_batch(SPEC))
    heads = [losses[f"head_{number}"] for number in range(1, 5)]
    torch.testing.assert_close(losses["loss"], 0.125 * heads[0] + 0.25 * heads[2] + 0.625 * heads[3])


def test_the_output_alone_is_plain_training() -> None:
    batch = make_batch(SPEC)
    plain = SegmentationTask(make_parts(unetpp(), SPEC)).train()
    expected = gradients_of(plain.training_losses(batch)["loss"], plain.net)
    task = make_task(unetpp(), [0, 0, 0, 1])
    found = gradients_of(task.training_losses(batch)["loss"], task.net)
    torch.testing.assert_close({name: found[name] for name in expected}, expected)
    assert not any(found[name].any() for name in found.keys() - expected.keys())


def test_the_first_head_alone_teaches_the_shallow_nodes_only() -> None:
    task = make_task(unetpp(), [1, 0, 0, 0])
    found = gradients_of(task.training_losses(make_batch(SPEC))["loss"], task.net)
    taught = {name.rsplit(".", 1)[0] for name, gradient in found.items() if gradient.any()}
    parts = {".".join(name.split(".")[:2]) for name in taught}
    assert parts == {"encoder.0", "encoder.1", "nodes.0_1", "heads.0"}


def test_validation_and_labels_come_from_the_output() -> None:
    task, batch = make_task(unetpp()).eval(), make_batch(SPEC, (30, 20))
    logits, losses = task.validation_losses(batch)
    assert torch.equal(logits, task(batch["image"])) and set(losses) == {"loss", "dice", "ce"}


def test_a_pruned_network_is_trained_with_all_its_heads() -> None:
    task = make_task(unetpp(depth=2), [1, 1, 1, 1])
    assert "head_4" in task.training_losses(make_batch(SPEC))


@pytest.mark.parametrize(
    "net",
    [
        lambda: small_unet(SPEC),
        lambda: AttentionUNet(form="lee2d", **SIZES),
        lambda: UNetPlusPlus(deep_supervision=False, **SIZES),
    ],
    ids=["unet", "lee2d", "unetpp"],
)
def test_a_network_with_a_single_output_is_refused(net: Any) -> None:
    with pytest.raises(ConfigError, match="no heads to supervise") as caught:
        make_task(net())
    assert "model.deep_supervision=true" in caught.value.fix


@pytest.mark.parametrize("weights", [[1.0], [1.0] * 5, [1.0, 1.0, 1.0, -1.0], [0.0] * 4, []])
def test_weights_that_do_not_fit_the_heads_are_refused(weights: list[float]) -> None:
    with pytest.raises(ConfigError, match="for 4 heads"):
        make_task(unetpp(), weights)
