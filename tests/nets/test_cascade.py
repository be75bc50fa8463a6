"""Cascade: the chain rule over two networks, what each of them learns from, and the sizes that both take."""

from functools import partial
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from seglab.errors import ConfigError, ShapeError
from seglab.nets.cascade import Cascade, chain_rule
from seglab.nets.e1d3 import E1D3UNet
from seglab.nets.orthogonal import OrthogonalFusion
from seglab.nets.smp import SMP
from seglab.nets.unet import UNet
from seglab.nets.unetpp import UNetPlusPlus

TINY = partial(UNet, base_channels=4, n_poolings=2)


def small(num_classes: int = 3, spatial_dims: int = 2, **stages: Any) -> Cascade:
    torch.manual_seed(0)
    return Cascade(
        in_channels=1,
        num_classes=num_classes,
        spatial_dims=spatial_dims,
        first=stages.get("first", TINY),
        second=stages.get("second", TINY),
    )


def gradients(net: nn.Module) -> list[torch.Tensor]:
    return [parameter.grad.clone() for parameter in net.parameters()]


def test_the_first_has_two_classes_and_the_second_one_less_than_the_cascade_and_a_channel_more() -> None:
    net = small(num_classes=5, spatial_dims=3)
    assert (net.first.in_channels, net.first.num_classes, net.first.spatial_dims) == (1, 2, 3)
    assert (net.second.in_channels, net.second.num_classes, net.second.spatial_dims) == (2, 4, 3)


def test_the_chain_rule_of_a_pixel_by_hand() -> None:
    organ, inside = torch.tensor([0.2, 0.8]), torch.tensor([0.75, 0.25])
    probs = chain_rule(organ.log().view(1, 2, 1, 1), inside.log().view(1, 2, 1, 1)).exp().flatten()
    torch.testing.assert_close(probs, torch.tensor([0.2, 0.6, 0.2]))


def test_logits_are_the_log_probabilities_of_both_networks_multiplied() -> None:
    net, image = small(num_classes=4).eval(), torch.rand(2, 1, 16, 8)
    with torch.no_grad():
        logits = net(image)
        organ = net.first(image).softmax(dim=1)
        inside = net.second(torch.cat([image, organ[:, 1:]], dim=1)).softmax(dim=1)
    torch.testing.assert_close(logits.exp(), torch.cat([organ[:, :1], organ[:, 1:] * inside], dim=1))
    torch.testing.assert_close(logits.softmax(dim=1), logits.exp())


def test_no_class_inside_the_organ_wins_where_the_first_gives_the_background_more_than_half() -> None:
    net, image = small(num_classes=4).eval(), torch.rand(4, 1, 32, 32)
    with torch.no_grad():
        net.first.head.bias += (net.first(image)[:, 1] - net.first(image)[:, 0]).median() * torch.tensor([1.0, 0.0])
        net.second.head.bias[1] = 1e4  # as sure of the tumour as can be
        background, organ = net.first(image).softmax(dim=1).unbind(dim=1)
        pred = net(image).argmax(dim=1)
    assert 0.3 < (background > 0.5).float().mean() < 0.7
    assert pred[background > 0.5].eq(0).all() and pred[organ > 0.5].eq(2).all()


def test_the_second_reads_the_first_but_does_not_move_it() -> None:
    net, image = small(), torch.rand(2, 1, 16, 16)
    logits = net(image)
    (logits[:, 2] - logits[:, 1]).square().mean().backward()  # the second network's odds: the organ cancels out
    assert all(grad.abs().max() < 1e-6 for grad in gradients(net.first))
    assert all(grad.abs().max() > 1e-6 for grad in gradients(net.second))
    with torch.no_grad():
        before = net(image)
        net.first.head.bias[1] += 1.0
        after = net(image)
    assert not torch.allclose(after[:, 2] - after[:, 1], before[:, 2] - before[:, 1])


def test_cross_entropy_trains_the_first_on_the_organ_and_the_second_on_the_pixels_in_it() -> None:
    net, image, mask = small(), torch.rand(2, 1, 16, 16), torch.randint(0, 3, (2, 16, 16))
    together = F.cross_entropy(net(image), mask)
    together.backward()
    joint = gradients(net.first), gradients(net.second)

    net.zero_grad()
    organ_logits = net.first(image)
    organ = organ_logits.softmax(dim=1)[:, 1:].detach()
    inside_logits = net.second(torch.cat([image, organ], dim=1))
    of_first = F.cross_entropy(organ_logits, (mask > 0).long())
    of_second = F.cross_entropy(inside_logits, mask - 1, ignore_index=-1) * (mask > 0).float().mean()
    (of_first + of_second).backward()

    torch.testing.assert_close(together, of_first + of_second)
    for got, expected in zip(joint, (gradients(net.first), gradients(net.second)), strict=True):
        torch.testing.assert_close(got, expected)


@pytest.mark.parametrize(("first", "second"), [(2, 4), (4, 2)])
def test_sizes_are_common_multiples_of_both(first: int, second: int) -> None:
    net = small(first=partial(TINY, n_poolings=first), second=partial(TINY, n_poolings=second))
    assert net.size_multiple == 16 and net.input_size_for((1, 17)) == (16, 32)
    with pytest.raises(ShapeError, match="pad to 16x32"):
        net(torch.rand(1, 1, 12, 28))


@pytest.mark.parametrize("stage", ["first", "second"])
def test_a_smallest_size_of_either_holds_for_both(stage: str) -> None:
    net = small(**{stage: partial(E1D3UNet, base_channels=2)}).eval()
    assert net.input_size_for((16, 16)) == (16, 32)
    with torch.no_grad():
        assert net(torch.rand(1, 1, 16, 32)).shape == (1, 3, 16, 32)
        with pytest.raises(ShapeError, match="pad to 16x32"):
            net(torch.rand(1, 1, 16, 16))


def test_side_outputs_of_both_are_chained_with_the_main_output_of_the_other() -> None:
    supervised = partial(UNetPlusPlus, base_channels=2, deep_supervision=True)
    net, image = small(first=supervised, second=supervised).eval(), torch.rand(1, 1, 16, 16)
    with torch.no_grad():
        heads = net.forward_heads(image)
        early = net.first.forward_heads(image)[0].log_softmax(dim=1)
    assert net.n_heads == len(heads) == 7
    for head in heads:
        torch.testing.assert_close(head.exp().sum(dim=1), torch.ones(1, 16, 16))
    torch.testing.assert_close(heads[0][:, 0], early[:, 0])
    assert all(torch.equal(head[:, 0], heads[-1][:, 0]) for head in heads[3:])
    for side in heads[:3]:
        torch.testing.assert_close(side[:, 2] - side[:, 1], heads[-1][:, 2] - heads[-1][:, 1])


def test_any_two_networks_fit_together() -> None:
    net = small(first=partial(SMP, encoder="resnet18"), second=partial(UNetPlusPlus, base_channels=2)).eval()
    assert net.size_multiple == 32
    with torch.no_grad():
        assert net(torch.rand(1, 1, 32, 32)).exp().sum(dim=1).allclose(torch.ones(1))


def test_every_stage_takes_the_channels_last_layout_of_its_own_kernels() -> None:
    net = small(spatial_dims=3, first=partial(OrthogonalFusion, plane=TINY))
    net.to(memory_format=torch.channels_last_3d)
    assert net.first.planes[0].encoder[0].second.conv.weight.is_contiguous(memory_format=torch.channels_last)
    assert net.second.encoder[0].second.conv.weight.is_contiguous(memory_format=torch.channels_last_3d)
    assert net.eval()(torch.rand(1, 1, 8, 8, 8)).shape == (1, 3, 8, 8, 8)


def test_a_refusal_names_the_stage_and_what_to_type() -> None:
    with pytest.raises(ConfigError) as caught:
        small(second=partial(UNet, base_channels=0))
    assert "the network second of Cascade" in caught.value.what and caught.value.given == "base_channels=0"
    assert caught.value.fix == "set model.second.base_channels=1"
    with pytest.raises(ConfigError, match=r"takes 188 px for one pixel of logits"):
        small(first=partial(UNet, padding="valid"))
