"""Inception U-Net, a reconstruction: its block by hand, its size beside U-Net's."""

import pytest
import torch
from torch import nn

from seglab.nets.inception_unet import InceptionBlock, InceptionUNet
from seglab.nets.unet import UNet

BRANCHES = ["one", "pool", "three", "five"]


def n_parameters(net: nn.Module) -> int:
    return sum(parameter.numel() for parameter in net.parameters())


@pytest.mark.parametrize(("i", "o"), [(1, 8), (128, 256)])
def test_count_of_a_block(i: int, o: int) -> None:
    with torch.device("meta"):
        block = InceptionBlock(2, i, o)
    weights = i * o + i * o + (i * o + 9 * o * o) + (i * o + 25 * o * o) + 9 * 4 * o * o
    assert n_parameters(block) == weights + 7 * o + 2 * o  # seven biases, one norm


def test_size_is_near_that_of_a_unet_of_twice_the_width() -> None:
    with torch.device("meta"):
        ours, unet = InceptionUNet(in_channels=1, num_classes=1), UNet(in_channels=1, num_classes=1, base_channels=32)
    assert n_parameters(ours) == 8_163_105
    assert n_parameters(ours) == pytest.approx(n_parameters(unet), rel=0.06)


@pytest.mark.parametrize(("branch", "field"), zip(BRANCHES, [1, 3, 3, 5], strict=True))
def test_fields_of_the_branches(branch: str, field: int) -> None:
    block = InceptionBlock(2, 1, 1)
    for parameter in block.parameters():
        nn.init.ones_(parameter)
    image = torch.zeros(1, 1, 15, 15)
    with torch.no_grad():
        changed = [
            block.branches[branch](image.index_put((*torch.tensor([[0], [0], [row], [column]]),), torch.tensor(9.0)))[
                0, 0, 7, 7
            ]
            != block.branches[branch](image)[0, 0, 7, 7]
            for row in range(15)
            for column in range(15)
        ]
    seen = torch.tensor(changed).view(15, 15)
    assert seen.sum() == field**2 and seen[7 - field // 2 : 8 + field // 2, 7 - field // 2 : 8 + field // 2].all()


def test_a_block_fuses_its_branches_in_order() -> None:
    torch.manual_seed(0)
    block, x = InceptionBlock(3, 2, 3).eval(), torch.randn(1, 2, 6, 6, 6)
    assert list(block.branches) == BRANCHES
    with torch.no_grad():
        joined = torch.cat([block.branches[name](x) for name in BRANCHES], dim=1)
        assert joined.min() == 0  # a ReLU ends each branch
        torch.testing.assert_close(block(x), block.fuse(joined))


def test_only_the_last_convolution_of_a_block_has_a_norm() -> None:
    block = InceptionBlock(2, 2, 3)
    assert not [module for module in block.branches.modules() if isinstance(module, nn.BatchNorm2d)]
    assert isinstance(block.fuse.norm, nn.BatchNorm2d)


def test_a_silenced_branch_is_missed() -> None:
    torch.manual_seed(0)
    image = torch.randn(1, 1, 16, 16)
    for name in BRANCHES:
        net = InceptionUNet(in_channels=1, num_classes=2, base_channels=4).eval()
        with torch.no_grad():
            before = net(image)
            for parameter in net.encoder[0].branches[name].parameters():
                nn.init.zeros_(parameter)
            assert not torch.allclose(net(image), before)
