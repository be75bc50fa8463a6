"""Residual U-Net: deeper and lighter than U-Net, as its paper claims, and what a residual block is."""

import pytest
import torch
from torch import nn

from seglab.nets.residual_unet import ResidualBlock, ResidualUNet
from seglab.nets.unet import UNet


def n_parameters(net: nn.Module) -> int:
    return sum(parameter.numel() for parameter in net.parameters())


def convs_of(net: nn.Module, kernel_size: int = 3) -> list[nn.Conv2d]:
    convs = [module for module in net.modules() if isinstance(module, nn.Conv2d)]
    return [conv for conv in convs if conv.kernel_size == (kernel_size, kernel_size)]


def paper(**arguments: int) -> ResidualUNet:
    with torch.device("meta"):
        return ResidualUNet(in_channels=1, num_classes=1, **arguments)


def test_it_is_deeper_and_lighter_than_a_unet() -> None:
    with torch.device("meta"):
        unet = UNet(in_channels=1, num_classes=1, base_channels=32)
    assert len(convs_of(paper())) == 36 and len(convs_of(unet)) == 18
    assert n_parameters(paper()) == 3_996_769 < n_parameters(unet) == 7_759_521


@pytest.mark.parametrize("n_blocks", [1, 2, 3])
def test_each_level_has_its_blocks_of_two_convolutions(n_blocks: int) -> None:
    net = paper(n_blocks=n_blocks)
    assert len(convs_of(net)) == 9 * 2 * n_blocks
    assert all(len(level) == n_blocks for level in (*net.encoder, *net.decoder))


def test_only_the_first_block_of_a_level_changes_the_channels() -> None:
    net = paper()
    for level in (*net.encoder, *net.decoder):
        assert isinstance(level[0].shortcut, nn.Sequential) and isinstance(level[1].shortcut, nn.Identity)
    assert [level[-1].second[0].out_channels for level in net.encoder] == [16, 32, 64, 128, 256]
    assert [level[0].first[0].in_channels for level in net.decoder] == [256, 128, 64, 32]


def test_no_convolution_but_the_head_has_a_bias() -> None:
    net = paper()
    assert all(conv.bias is None for conv in convs_of(net))
    assert [conv for conv in convs_of(net, 1) if conv.bias is not None] == [net.head]


def test_identity_blocks_without_their_second_scale_are_a_relu() -> None:
    torch.manual_seed(0)
    block, x = ResidualBlock(2, 4, 4).train(), torch.randn(2, 4, 8, 8)
    assert not torch.allclose(block(x), x.relu())
    nn.init.zeros_(block.second[1].weight)
    torch.testing.assert_close(block(x), x.relu())


def test_a_network_whose_identity_blocks_are_relus_equals_one_of_a_block_per_level() -> None:
    torch.manual_seed(0)
    deep = ResidualUNet(in_channels=1, num_classes=1, base_channels=4).eval()
    shallow = ResidualUNet(in_channels=1, num_classes=1, base_channels=4, n_blocks=1).eval()
    shallow.load_state_dict({key: value for key, value in deep.state_dict().items() if key in shallow.state_dict()})
    for level in (*deep.encoder, *deep.decoder):
        nn.init.zeros_(level[1].second[1].weight)
    image = torch.rand(1, 1, 48, 32)
    with torch.no_grad():
        torch.testing.assert_close(deep(image), shallow(image))


@pytest.mark.parametrize("size", [(16, 16), (48, 112), (96, 128)])
def test_the_output_has_the_size_of_the_input(size: tuple[int, int]) -> None:
    with torch.device("meta"):
        assert paper()(torch.empty(2, 1, *size)).shape == (2, 1, *size)
