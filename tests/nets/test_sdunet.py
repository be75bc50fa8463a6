"""SDU-Net: the count that meets the paper's three ratios, and how far each part of a block sees."""

import pytest
import torch
from torch import nn

from seglab.nets.attention_unet import AttentionUNet
from seglab.nets.blocks import DoubleConv
from seglab.nets.sdunet import SDBlock, SDUNet


def n_parameters(net: nn.Module) -> int:
    return sum(parameter.numel() for parameter in net.parameters())


def paper(in_channels: int = 1, norm: str = "batch") -> SDUNet:
    with torch.device("meta"):
        return SDUNet(in_channels=in_channels, num_classes=1, norm=norm)


@pytest.mark.parametrize(("in_channels", "count"), [(1, 5_997_681), (3, 5_998_257)])
@pytest.mark.parametrize("norm", ["batch", "group"])
def test_either_norm_gives_the_same_count(in_channels: int, norm: str, count: int) -> None:
    assert n_parameters(paper(in_channels, norm)) == count


def test_count_of_every_part() -> None:
    net = paper()
    assert [n_parameters(block) for block in net.encoder] == [6_672, 62_016, 247_296, 987_648, 1_577_472]
    assert [n_parameters(level.up) for level in net.decoder] == [1_049_088, 262_400, 65_664, 16_448]
    assert [n_parameters(level.block) for level in net.decoder] == [1_279_488, 320_064, 80_112, 43_248]
    assert n_parameters(net.head) == 65


def unet_of_the_same_layout() -> SDUNet:
    """SDU-Net with U-Net's pair of convolutions in place of each block."""
    net, widths = paper(), [1, 64, 128, 256, 512, 512]
    with torch.device("meta"):
        for level in range(5):
            net.encoder[level] = DoubleConv(2, widths[level], widths[level + 1])
        for level, (before, width) in enumerate([(1024, 256), (512, 128), (256, 64), (128, 64)]):
            net.decoder[level].block = DoubleConv(2, before, width)
    return net


def test_it_has_the_published_shares_of_the_other_networks_parameters() -> None:
    with torch.device("meta"):
        attention = AttentionUNet(in_channels=1, num_classes=1, form="lee2d")
    unet, r2unet = n_parameters(unet_of_the_same_layout()), 39_091_265  # R2U-Net, 64 channels, 2 recurrent steps
    assert unet == 14_787_777
    for other, percent in [(unet, 40), (n_parameters(attention), 17), (r2unet, 15)]:
        assert 100 * n_parameters(paper()) / other == pytest.approx(percent, abs=1)


@pytest.mark.parametrize("channels", [16, 64, 128, 256, 512])
def test_a_block_gives_the_channels_it_was_asked_for_and_halves_its_parts(channels: int) -> None:
    with torch.device("meta"):
        block = SDBlock(2, 3, channels, norm="batch")
        assert block(torch.empty(1, 3, 8, 8)).shape == (1, channels, 8, 8)
    widths = [conv.conv.out_channels for conv in block.convs]
    assert widths == [channels // 2, channels // 4, channels // 8, channels // 16, channels // 16]
    assert [conv.conv.dilation[0] for conv in block.convs] == [1, 3, 6, 9, 12]
    assert [conv.conv.in_channels for conv in block.convs] == [3, *widths[:-1]]  # in series, not side by side


@pytest.mark.parametrize("spatial_dims", [2, 3])
def test_the_parts_of_a_block_see_3_9_21_39_and_63_pixels(spatial_dims: int) -> None:
    block, start = SDBlock(spatial_dims, 1, 16, norm="batch").eval(), 0
    for conv in block.convs:
        nn.init.ones_(conv.conv.weight)
        nn.init.ones_(conv.conv.bias)  # keeps the ReLU open, as the image does
    image = torch.ones(1, 1, *[67 if axis == 0 else 3 for axis in range(spatial_dims)], requires_grad=True)
    out, middle = block(image), (slice(None), 33, *[1] * (spatial_dims - 1))
    for conv, field in zip(block.convs, (3, 9, 21, 39, 63), strict=True):
        stop = start + conv.conv.out_channels
        (gradient,) = torch.autograd.grad(out[0, start:stop][middle].sum(), image, retain_graph=True)
        seen = gradient[0, 0].nonzero()[:, 0]
        assert (seen.min(), seen.max()) == (33 - field // 2, 33 + field // 2)
        start = stop


def test_levels_have_the_widths_of_the_one_layout_that_meets_the_ratios() -> None:
    net = paper()
    outs = [sum(conv.conv.out_channels for conv in block.convs) for block in net.encoder]
    assert outs == [64, 128, 256, 512, 512]
    assert [(level.up.in_channels, level.up.out_channels) for level in net.decoder] == [
        (512, 512), (256, 256), (128, 128), (64, 64),
    ]  # fmt: skip
    assert [level.block.convs[0].conv.in_channels for level in net.decoder] == [1024, 512, 256, 128]
    assert [sum(c.conv.out_channels for c in level.block.convs) for level in net.decoder] == [256, 128, 64, 64]


@pytest.mark.parametrize(("norm", "kind"), [("batch", nn.BatchNorm2d), ("group", nn.GroupNorm)])
def test_a_norm_and_a_relu_follow_every_3_wide_convolution(norm: str, kind: type[nn.Module]) -> None:
    net = paper(norm=norm)
    blocks = [module for module in net.modules() if isinstance(module, SDBlock)]
    assert len(blocks) == 9
    for conv in (conv for block in blocks for conv in block.convs):
        assert conv.conv.kernel_size == (3, 3) and conv.conv.bias is not None
        assert isinstance(conv.norm, kind) and isinstance(conv.act, nn.ReLU)


def test_a_shift_by_the_total_stride_shifts_the_logits_beyond_the_wide_field() -> None:
    torch.manual_seed(0)
    net = SDUNet(in_channels=1, num_classes=2, base_channels=16).eval()
    margin = 1456  # 31 px times 46, the sum of the strides of the nine blocks, and the poolings
    image = torch.rand(1, 1, 16, 2 * margin + 64)
    with torch.no_grad():
        left, right = net(image[..., :-16]), net(image[..., 16:])
    inner = slice(margin, left.shape[-1] - 16 - margin)
    torch.testing.assert_close(left[..., 16:][..., inner], right[..., :-16][..., inner], rtol=1e-4, atol=1e-5)
