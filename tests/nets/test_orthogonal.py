"""Orthogonal fusion: which plane each network sees, how three answers become one, and which sizes are taken."""

import itertools
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor

from seglab.errors import ShapeError
from seglab.nets.base import SegmentationNet
from seglab.nets.e1d3 import E1D3UNet
from seglab.nets.orthogonal import OrthogonalFusion, as_slices, as_volume
from seglab.nets.smp import SMP
from seglab.nets.unet import UNet
from seglab.nets.unetpp import UNetPlusPlus

TINY = partial(UNet, base_channels=4, n_poolings=1)


class RowSums(SegmentationNet):
    """The sum of each row of a slice, as the logit of every class."""

    def forward(self, image: Tensor) -> Tensor:
        return image.sum(dim=3, keepdim=True).expand(-1, self.num_classes, -1, image.shape[3])


def small(plane: Any = TINY, num_classes: int = 2, **arguments: Any) -> OrthogonalFusion:
    torch.manual_seed(0)
    return OrthogonalFusion(in_channels=1, num_classes=num_classes, plane=plane, **arguments)


def identical(net: OrthogonalFusion) -> OrthogonalFusion:
    """Three networks with the weights of the first."""
    for plane in net.planes[1:]:
        plane.load_state_dict(net.planes[0].state_dict())
    return net


def symmetric_volume(size: int) -> Tensor:
    """Equal under every exchange of its axes, and otherwise random."""
    torch.manual_seed(1)
    volume = torch.rand(size, size, size)
    return torch.stack([volume.permute(order) for order in itertools.permutations(range(3))]).mean(dim=0)[None, None]


def one_net(net: OrthogonalFusion, image: Tensor) -> Tensor:
    """What the first network says of the slices across the first axis."""
    return as_volume(net.planes[0](as_slices(image, 0)), 0, len(image))


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_slices_lie_across_their_axis_and_find_their_way_back(axis: int) -> None:
    image = torch.rand(2, 3, 4, 5, 6)
    slices = as_slices(image, axis)
    size = image.shape[axis + 2]
    assert slices.shape == (2 * size, 3, *(length for other, length in enumerate((4, 5, 6)) if other != axis))
    assert torch.equal(slices[size + 1], image[1].select(axis + 1, 1))
    assert torch.equal(as_volume(slices, axis, 2), image)


def test_the_networks_see_hw_dw_and_dh() -> None:
    image = torch.rand(2, 1, 4, 5, 6)
    over_w, over_h = image.sum(dim=4, keepdim=True), image.sum(dim=3, keepdim=True)
    expected = ((2 * over_w + over_h) / 3).expand(2, 2, 4, 5, 6)
    torch.testing.assert_close(small(RowSums)(image), expected)


def test_three_identical_nets_on_a_symmetric_volume_equal_one_net_where_the_planes_cross_alike() -> None:
    net, image = identical(small()).eval(), symmetric_volume(8)
    with torch.no_grad():
        fused, one = net(image), one_net(net, image)
    index = torch.arange(8)
    torch.testing.assert_close(fused[..., index, index, index], one[..., index, index, index])
    # elsewhere the networks see different slices: their mean is that of one net's answers at the exchanged places
    turned = [one, one.permute(0, 1, 3, 2, 4), one.permute(0, 1, 3, 4, 2)]
    torch.testing.assert_close(fused, torch.stack(turned).mean(dim=0))


def test_three_identical_nets_on_a_uniform_volume_equal_one_net_away_from_the_border() -> None:
    net, image = identical(small()).eval(), torch.full((1, 1, 32, 32, 32), 0.7)
    with torch.no_grad():
        fused, one = net(image), one_net(net, image)
    inner = (..., *[slice(12, 20, 2)] * 3)  # even pixels: an up-convolution tells them from odd ones
    torch.testing.assert_close(fused[inner], one[inner])
    assert not torch.allclose(fused, one)  # at the border they see different zeros


def test_a_shared_network_is_one_third_of_the_parameters_and_equals_three_identical_ones() -> None:
    apart, shared = identical(small()).eval(), small(shared=True).eval()
    n_apart, n_shared = (sum(p.numel() for p in net.parameters()) for net in (apart, shared))
    assert n_apart == 3 * n_shared and len(shared.planes) == 1
    shared.planes[0].load_state_dict(apart.planes[0].state_dict())
    image = torch.rand(2, 1, 4, 6, 8)
    with torch.no_grad():
        assert torch.equal(apart(image), shared(image))


def test_three_networks_start_apart() -> None:
    weights = [plane.head.weight for plane in small().planes]
    assert not torch.equal(weights[0], weights[1]) and not torch.equal(weights[1], weights[2])


def test_learned_fusion_starts_as_the_mean_of_each_class_and_learns() -> None:
    mean, learned = small(num_classes=3).eval(), small(num_classes=3, fusion="learned").eval()
    assert sum(p.numel() for p in learned.mix.parameters()) == 9 * 3 + 3
    learned.planes.load_state_dict(mean.planes.state_dict())
    image = torch.rand(2, 1, 4, 6, 8)
    torch.testing.assert_close(learned(image), mean(image))
    learned(image)[:, 0].square().mean().backward()
    assert learned.mix.weight.grad[0].abs().min() > 0


def test_side_outputs_of_the_planes_are_fused_one_by_one() -> None:
    net = small(partial(UNetPlusPlus, base_channels=2, deep_supervision=True)).eval()
    image = torch.rand(1, 1, 16, 16, 16)
    with torch.no_grad():
        heads, logits = net.forward_heads(image), net(image)
        firsts = [as_volume(net.planes[axis].forward_heads(as_slices(image, axis))[0], axis, 1) for axis in (0, 1, 2)]
    assert net.n_heads == len(heads) == 4 and torch.equal(heads[-1], logits)
    torch.testing.assert_close(heads[0], sum(firsts) / 3)


def test_every_axis_has_a_size_that_its_planes_take() -> None:
    net = small(partial(TINY, n_poolings=3))
    assert net.size_multiple == 8 and net.input_size_for((1, 9, 16)) == (8, 16, 16)
    with pytest.raises(ShapeError, match="pad to 8x16x16"):
        net(torch.rand(1, 1, 5, 12, 16))
    instance = small(partial(E1D3UNet, base_channels=2)).eval()  # refuses planes of 16x16
    assert instance.input_size_for((16, 16, 16)) == (16, 32, 32)
    with torch.no_grad():
        assert instance(torch.rand(1, 1, 16, 32, 32)).shape == (1, 2, 16, 32, 32)


def test_a_network_that_knows_two_dimensions_only_labels_volumes() -> None:
    net = small(partial(SMP, encoder="resnet18"), shared=True).eval()
    with torch.no_grad():
        assert net(torch.rand(1, 1, 32, 32, 32)).shape == (1, 2, 32, 32, 32)


def test_the_layout_of_volumes_reaches_the_kernels_of_the_planes_and_changes_no_logit() -> None:
    net, image = small(fusion="learned").eval(), torch.rand(1, 1, 4, 6, 8)
    with torch.no_grad():
        before = net(image)
        same = net.to(memory_format=torch.channels_last_3d)
        assert same is net
        torch.testing.assert_close(net(image.contiguous(memory_format=torch.channels_last_3d)), before)
    assert net.planes[2].encoder[0].second.conv.weight.is_contiguous(memory_format=torch.channels_last)
    assert net.mix.weight.is_contiguous(memory_format=torch.channels_last_3d)
    assert net.to(torch.float64).mix.weight.dtype == torch.float64
