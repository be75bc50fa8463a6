"""Dense U-Net, a reconstruction: its block by hand, its size beside U-Net's."""

import pytest
import torch
from torch import nn

from seglab.nets.dense_unet import DenseBlock, DenseUNet
from seglab.nets.unet import UNet


def n_parameters(net: nn.Module) -> int:
    return sum(parameter.numel() for parameter in net.parameters())


@pytest.mark.parametrize("growth", [16, 32])
def test_count_of_a_block(growth: int) -> None:
    with torch.device("meta"):
        block = DenseBlock(2, 64, growth, 4)
    inputs = [64, 64 + growth, 64 + 2 * growth, 64 + 3 * growth]
    assert [layer.conv.in_channels for layer in block.layers] == inputs
    assert n_parameters(block) == 9 * growth * sum(inputs) + 4 * 3 * growth  # biases and norms


def test_a_dense_net_needs_fewer_parameters_than_a_unet_of_its_width() -> None:
    with torch.device("meta"):
        dense, unet = DenseUNet(in_channels=1, num_classes=1), UNet(in_channels=1, num_classes=1, base_channels=32)
        wide = DenseUNet(in_channels=1, num_classes=1, growth=32)
    assert n_parameters(dense) == 2_099_809
    assert n_parameters(dense) < n_parameters(wide) < n_parameters(unet)


def test_a_block_hands_on_its_input_and_every_layer() -> None:
    torch.manual_seed(0)
    block, x = DenseBlock(2, 3, 2, 3).eval(), torch.randn(1, 3, 8, 8)
    with torch.no_grad():
        features = [x]
        for layer in block.layers:
            features.append(layer(torch.cat(features, dim=1)))
        torch.testing.assert_close(block(x), torch.cat(features, dim=1))
        assert torch.equal(block(x)[:, :3], x)


def test_every_layer_sees_every_layer_before() -> None:
    torch.manual_seed(0)
    block, x = DenseBlock(2, 2, 1, 4).eval(), torch.rand(1, 2, 8, 8)
    for layer in block.layers:
        nn.init.ones_(layer.conv.weight)
        nn.init.zeros_(layer.conv.bias)
    with torch.no_grad():
        before = block(x)
        for index in range(3):
            first = block.layers[index].conv
            nn.init.constant_(first.bias, 1.0)
            changed = [not torch.allclose(a, b) for a, b in zip(block(x)[0], before[0], strict=True)]
            assert changed == [False] * (2 + index) + [True] * (4 - index)
            nn.init.zeros_(first.bias)


def test_the_last_layer_reaches_the_input_without_the_others() -> None:
    torch.manual_seed(0)
    block, x = DenseBlock(3, 2, 4, 3).eval(), torch.rand(1, 2, 4, 4, 4)
    for layer in block.layers[:-1]:
        nn.init.zeros_(layer.norm.weight)
    with torch.no_grad():
        assert block(x)[:, 2:-4].abs().max() == 0
        assert not torch.allclose(block(x)[:, -4:], block(0.5 * x)[:, -4:])


def test_levels_end_at_the_widths_of_a_unet() -> None:
    with torch.device("meta"):
        net = DenseUNet(in_channels=3, num_classes=1, n_layers=2)
    assert [level[1].conv.out_channels for level in net.encoder] == [32, 64, 128, 256, 512]
    assert [level[1].conv.out_channels for level in net.decoder] == [256, 128, 64, 32]
    assert [level[1].conv.in_channels for level in net.decoder] == [512 + 32, 256 + 32, 128 + 32, 64 + 32]
