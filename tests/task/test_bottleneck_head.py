"""BottleneckHeadTask: what the head is compared with, and which parts of the network its loss reaches."""

import math

import pytest
import torch
from parts import convolutions, gradients_of, make_batch, make_parts, make_spec, small_unet
from torch import nn

from seglab.errors import ConfigError
from seglab.nets.bottleneck_head_unet import BottleneckHeadUNet
from seglab.spec import IGNORE_INDEX, DataSpec
from seglab.task.bottleneck_head import BottleneckHeadTask, class_shares
from seglab.task.segmentation import SegmentationTask

SPEC = make_spec()


def make_net(spec: DataSpec = SPEC, **options: object) -> BottleneckHeadUNet:
    torch.manual_seed(0)
    sizes = {"in_channels": 1, "num_classes": spec.num_classes, "spatial_dims": spec.spatial_dims}
    return BottleneckHeadUNet(**sizes, base_channels=2, head_channels=4, **options)  # type: ignore[arg-type]


def make_task(net: BottleneckHeadUNet | None = None, **options: float) -> BottleneckHeadTask:
    return BottleneckHeadTask(make_parts(make_net() if net is None else net, SPEC), **options).train()  # type: ignore[arg-type]


def test_shares_and_commonest_classes_of_cells_by_hand() -> None:
    ignored = IGNORE_INDEX
    mask = torch.tensor([[[0, 1, 2, 2], [1, 1, 0, 0], [ignored] * 2 + [0, ignored], [ignored] * 2 + [2, 2]]])
    shares, valid = class_shares(mask, torch.Size((1, 3, 2, 2)))
    expected = [[[1 / 4, 1 / 2], [0, 1 / 3]], [[3 / 4, 0], [0, 0]], [[0, 1 / 2], [0, 2 / 3]]]
    torch.testing.assert_close(shares[0], torch.tensor(expected))
    assert valid[0].tolist() == [[True, True], [False, True]]
    assert shares[0].argmax(dim=0).tolist() == [[1, 0], [0, 2]]  # of equally common classes the first


@pytest.mark.parametrize(("soft", "target"), [(False, [0, 1, 0]), (True, [1 / 4, 5 / 8, 1 / 8])])
def test_the_head_is_compared_with_the_commonest_class_or_the_shares(soft: bool, target: list[float]) -> None:
    net = make_net()
    nn.init.zeros_(net.bottleneck_head.second.weight)
    net.bottleneck_head.second.bias.data = torch.tensor([0.5, -1.0, 2.0])
    mask = torch.full((1, 16, 32), IGNORE_INDEX)  # two cells, one of them ignored
    mask[:, :8, :16] = torch.tensor([0, 1] * 8)
    mask[:, 8:12, :16], mask[:, 12:, :16] = 1, torch.tensor([2, 1] * 8)
    losses = make_task(net, soft=soft, weight=3.0).training_losses({"image": torch.rand(1, 1, 16, 32), "mask": mask})
    expected = -(torch.tensor(target) * torch.tensor([0.5, -1.0, 2.0]).log_softmax(0)).sum()
    torch.testing.assert_close(losses["bottleneck"], expected)
    torch.testing.assert_close(losses["loss"], losses["dice"] + losses["ce"] + 3 * expected)


@pytest.mark.parametrize("soft", [False, True])
def test_the_heads_loss_reaches_every_encoder_convolution_and_nothing_of_the_decoder(soft: bool) -> None:
    task = make_task(soft=soft)
    found = gradients_of(task.training_losses(make_batch(SPEC))["bottleneck"], task.net)
    parts = [f"{name}.weight" for name in convolutions(task.net) if name.startswith(("encoder.", "bottleneck_head."))]
    assert len(parts) == 10 + 2 and all(found[name].any() for name in parts)
    assert not [name for name in found if name.startswith(("decoder.", "head."))]


def test_without_weight_the_network_learns_as_in_plain_training() -> None:
    batch, plain = make_batch(SPEC, (37, 24)), SegmentationTask(make_parts(make_net(), SPEC)).train()
    expected = plain.training_losses(batch)
    task = make_task(weight=0.0)
    losses = task.training_losses(batch)
    assert losses["bottleneck"] > 0 and all(torch.equal(losses[name], value) for name, value in expected.items())
    wanted, found = gradients_of(expected["loss"], plain.net), gradients_of(losses["loss"], task.net)
    assert all(torch.equal(found[name], gradient) for name, gradient in wanted.items())
    assert not any(found[name].any() for name in found.keys() - wanted.keys())


def test_padding_counts_in_no_cell() -> None:
    """A patch of 40 is padded to 48 by 4 on each side; of the cells at its border only the middle counts."""
    net = make_net()
    nn.init.zeros_(net.bottleneck_head.second.weight)
    net.bottleneck_head.second.bias.data = torch.tensor([0.0, 0.0, math.log(2)])
    batch = {"image": torch.rand(1, 1, 40, 40), "mask": torch.ones(1, 40, 40, dtype=torch.int64)}
    assert make_task(net).training_losses(batch)["bottleneck"].item() == pytest.approx(math.log(4))
    batch["mask"][:] = IGNORE_INDEX
    assert make_task(net).training_losses(batch)["bottleneck"].item() == 0


def test_a_dense_head_is_trained_on_the_patches_it_was_built_for() -> None:
    task = make_task(make_net(head="dense", image_size=[32, 32]))
    found = gradients_of(task.training_losses(make_batch(SPEC))["bottleneck"], task.net)
    assert found["bottleneck_head.reduce.weight"].any() and found["encoder.0.first.conv.weight"].any()


def test_a_volume_has_cells_along_all_axes() -> None:
    spec = make_spec(dims=3)
    task = BottleneckHeadTask(make_parts(make_net(spec), spec)).train()
    losses = task.training_losses(make_batch(spec, (16, 32, 20)))
    assert losses["loss"].isfinite() and losses["bottleneck"] > 0


def test_labels_do_not_depend_on_the_head() -> None:
    task, image = make_task().eval(), torch.rand(2, 1, 40, 24)
    with torch.no_grad():
        before = task(image)
        for parameter in task.net.bottleneck_head.parameters():
            parameter.fill_(torch.nan)
        assert torch.equal(task(image), before)


def test_a_network_without_such_a_head_and_a_negative_weight_are_refused() -> None:
    with pytest.raises(ConfigError, match="set model=bottleneck_head_unet"):
        BottleneckHeadTask(make_parts(small_unet(SPEC), SPEC))
    with pytest.raises(ConfigError, match=r"task\.weight=-0\.5"):
        make_task(weight=-0.5)
