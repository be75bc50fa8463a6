"""BottleneckSupervisionTask: the bottleneck term teaches the encoder alone, and the encoding network nothing."""

from typing import Any

import pytest
import torch
from parts import convolutions, gradients, make_batch, make_parts, make_spec, small_unet, train

from seglab.errors import ConfigError
from seglab.nets.base import SegmentationNet
from seglab.nets.bsunet import BSUNet, EncodingUNet
from seglab.spec import IGNORE_INDEX
from seglab.task.bottleneck_supervision import BottleneckSupervisionTask
from seglab.task.label_encoding import encode_labels

SPEC = make_spec(patch=64)
SIZES = {"num_classes": 3, "spatial_dims": 2}


def make_task(encoding: SegmentationNet | None = None, **options: Any) -> BottleneckSupervisionTask:
    torch.manual_seed(0)
    task = BottleneckSupervisionTask(make_parts(BSUNet(in_channels=1, base_channels=2, **SIZES), SPEC), **options)
    task.use_first(EncodingUNet(in_channels=2, base_channels=2, **SIZES) if encoding is None else encoding)
    return task.train()


def test_the_bottleneck_alone_teaches_the_encoder_and_neither_ups_nor_head_nor_the_encoding_network() -> None:
    encoding = EncodingUNet(in_channels=2, base_channels=2, **SIZES)
    task = make_task(encoding, loss_weight=0.0, bottleneck_weight=1.0)
    task.training_losses(make_batch(SPEC))["loss"].backward()
    found = gradients(task.net)
    encoder = [f"encoder.{name}.weight" for name in convolutions(task.net.encoder)]
    assert len(encoder) == 7 + 5 * 5 + 7 + 3 and all(found[name].any() for name in encoder)  # T1, D1 to D5, T2, dense
    assert not any(found[name].any() for name in found if name.startswith(("decoder.", "head.")))
    assert all(parameter.grad is None and not parameter.requires_grad for parameter in encoding.parameters())


def test_the_loss_alone_teaches_every_part() -> None:
    task = make_task(loss_weight=1.0, bottleneck_weight=0.0)
    task.training_losses(make_batch(SPEC))["loss"].backward()
    found = gradients(task.net)
    assert all(found[f"{name}.weight"].any() for name in convolutions(task.net))


def test_equal_bottlenecks_are_no_distance_apart() -> None:
    net = BSUNet(in_channels=2, base_channels=2, **SIZES).eval()
    encoding = EncodingUNet(in_channels=2, base_channels=2, **SIZES)
    encoding.encoder.load_state_dict(net.encoder.state_dict())
    task = BottleneckSupervisionTask(make_parts(net, make_spec(channels=2)))
    task.use_first(encoding)
    batch = make_batch(SPEC)
    batch["image"] = encode_labels(batch["mask"], 3, class_axis=1).float()
    assert task.eval().training_losses(batch)["bottleneck"].item() == 0
    assert task.training_losses({**batch, "image": batch["image"] / 2})["bottleneck"].item() > 0


def test_the_distance_is_the_mean_square_and_is_added_with_its_weight() -> None:
    task, batch = make_task(loss_weight=2.0, bottleneck_weight=3.0).eval(), make_batch(SPEC)
    losses = task.training_losses(batch)
    with torch.no_grad():
        feature = task.net.forward_bottleneck(batch["image"])[1]
        distance = ((feature - task.target(batch["mask"])) ** 2).sum() / (2 * 32 * 2 * 2)  # (2, 32, 2, 2)
    plain = task.loss(task(batch["image"]), batch["mask"])
    torch.testing.assert_close(losses["bottleneck"], distance)
    torch.testing.assert_close(losses["loss"], 2 * plain["loss"] + 3 * distance)
    torch.testing.assert_close(losses["dice"], plain["dice"])


def test_ignored_pixels_are_encoded_as_background() -> None:
    task, mask = make_task(), make_batch(SPEC)["mask"]
    background = mask.clone()
    mask[:, :20], background[:, :20] = IGNORE_INDEX, 0
    assert torch.equal(task.target(mask), task.target(background))


def test_steps_change_nothing_in_the_encoding_network() -> None:
    encoding = EncodingUNet(in_channels=2, base_channels=2, **SIZES)
    task = make_task(encoding)
    before = {name: value.clone() for name, value in encoding.state_dict().items()}
    keys = set(task.state_dict())
    train(task, make_batch(SPEC, (40, 70)), n_steps=2)  # of a size that is padded
    assert all(torch.equal(value, before[name]) for name, value in encoding.state_dict().items())
    assert not any(module.training for module in encoding.modules())
    assert set(task.state_dict()) == keys and any(key.startswith("net.encoder.") for key in keys)
    assert not any("encoding" in key for key in keys)


def test_a_network_without_the_bottleneck_is_refused() -> None:
    with pytest.raises(ConfigError, match="set model=bsunet"):
        BottleneckSupervisionTask(make_parts(small_unet(SPEC), SPEC))


@pytest.mark.parametrize(
    "first",
    [
        lambda: BSUNet(in_channels=2, base_channels=2, **SIZES),
        lambda: EncodingUNet(in_channels=2, base_channels=4, **SIZES),
        lambda: EncodingUNet(in_channels=1, base_channels=2, **SIZES),
        lambda: EncodingUNet(in_channels=2, base_channels=2, num_classes=3, spatial_dims=3),
    ],
    ids=["another kind", "another width", "other channels", "other dimensions"],
)
def test_an_encoding_network_that_does_not_fit_is_refused(first: Any) -> None:
    with pytest.raises(ConfigError, match="no encoding network for this BSUNet") as caught:
        make_task(first())
    assert "model@first.model=encoding_unet task@first.task=label_encoding" in caught.value.fix


@pytest.mark.parametrize(("loss", "bottleneck"), [(0.0, 0.0), (-1.0, 1.0), (1.0, -0.1)])
def test_weights_that_mean_nothing_are_refused(loss: float, bottleneck: float) -> None:
    with pytest.raises(ConfigError, match=f"task.loss_weight={loss}, task.bottleneck_weight={bottleneck}"):
        make_task(loss_weight=loss, bottleneck_weight=bottleneck)
