"""MultiResUNet: the paper's network to the last parameter, part by part."""

import torch
from torch import nn

from seglab.nets.multiresunet import MultiResBlock, MultiResUNet


def n_parameters(net: nn.Module) -> int:
    return sum(parameter.numel() for parameter in net.parameters())


def paper(in_channels: int = 3) -> MultiResUNet:
    with torch.device("meta"):
        return MultiResUNet(in_channels=in_channels, num_classes=1)


def test_count_of_every_part() -> None:
    net = paper()
    assert [n_parameters(block) for block in net.encoder] == [5_877, 35_838, 146_706, 591_288, 2_367_288]
    assert n_parameters(paper(in_channels=1).encoder[0]) == 5_631
    assert [n_parameters(path) for path in net.res_paths] == [47_552, 149_888, 436_224, 1_091_584]
    assert [n_parameters(up) for up in net.ups] == [873_728, 218_240, 54_336, 13_472]
    assert [n_parameters(block) for block in net.decoder] == [910_788, 226_283, 55_704, 13_380]
    assert n_parameters(net.final) == 52


def test_it_is_not_the_later_port_of_the_authors() -> None:
    with torch.device("meta"):
        net = MultiResUNet(in_channels=3, num_classes=2)
    assert n_parameters(net) < 7_251_376
    assert all(conv.bias is None for conv in net.modules() if isinstance(conv, nn.Conv2d))
    used = []
    small = MultiResUNet(in_channels=1, num_classes=1, base_channels=4).eval()
    for norm in small.modules():
        if isinstance(norm, nn.BatchNorm2d):
            norm.register_forward_hook(lambda module, *_: used.append(id(module)))
    small(torch.rand(1, 1, 16, 16))
    assert len(used) == len(set(used))  # each norm is used once


def test_a_block_adds_its_shortcut_before_relu_and_norm() -> None:
    torch.manual_seed(0)
    block, x = MultiResBlock(2, 3, [2, 3, 4]).train(), torch.randn(2, 3, 8, 8)
    with torch.no_grad():
        expected = block.norm(torch.relu(block.shortcut(x) + block.chain(x)))
        assert torch.allclose(block(x), expected) and expected.min() < 0
        block.shortcut.conv.weight.zero_()
        assert not torch.allclose(block(x), expected)
    assert block.shortcut.conv.kernel_size == (1, 1) and not block.shortcut.act


def test_widths_are_truncated_and_res_paths_get_shorter() -> None:
    net = paper()
    assert [block.norm.num_features for block in net.encoder] == [51, 105, 212, 426, 853]
    assert [conv.conv.out_channels for conv in net.encoder[4].chain.convs] == [142, 284, 427]
    assert [len(path) for path in net.res_paths] == [4, 3, 2, 1]
