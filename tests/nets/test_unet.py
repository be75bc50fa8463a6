"""U-Net: published counts, the valid mode of the paper, and its overlap tiles."""

import pytest
import torch
from torch import nn

from seglab.errors import ShapeError
from seglab.nets.unet import UNet


def n_parameters(net: nn.Module) -> int:
    return sum(parameter.numel() for parameter in net.parameters())


@pytest.mark.parametrize(
    ("in_channels", "num_classes", "arguments", "count"),
    [
        (1, 2, {}, 31_030_658),  # the paper's network
        (1, 1, {}, 31_030_593),
        (3, 1, {}, 31_031_745),
        (3, 2, {}, 31_031_810),
        (1, 1, {"base_channels": 32}, 7_759_521),  # baseline of MultiResUNet and DC-UNet
        (1, 2, {"norm": "batch"}, 31_042_434),  # teacher and students of arXiv 1812.00249
        (1, 2, {"norm": "batch", "base_channels": 4}, 122_394),
        (1, 2, {"norm": "batch", "base_channels": 2}, 30_902),
        (1, 2, {"norm": "batch", "base_channels": 1}, 7_878),
    ],
)
def test_parameter_count_is_the_published_one(
    in_channels: int, num_classes: int, arguments: dict[str, object], count: int
) -> None:
    with torch.device("meta"):
        assert n_parameters(UNet(in_channels=in_channels, num_classes=num_classes, **arguments)) == count


def test_the_paper_network_has_23_convolutions_and_no_extra_one_before_the_head() -> None:
    with torch.device("meta"):
        net = UNet(in_channels=1, num_classes=2)
    convs = [m for m in net.modules() if isinstance(m, nn.Conv2d | nn.ConvTranspose2d)]
    assert len(convs) == 23
    assert n_parameters(net) != 31_031_685  # the widely copied variant


@pytest.mark.parametrize(("size", "out"), [(572, 388), (508, 324), (316, 132), (700, 516), (188, 4)])
def test_valid_sizes_of_the_paper(size: int, out: int) -> None:
    with torch.device("meta"):
        net = UNet(in_channels=1, num_classes=2, padding="valid")
        assert net(torch.empty(1, 1, size, 188)).shape == (1, 2, out, 4)
    assert net.input_size_for((out, 4)) == (size, 188)


@pytest.mark.parametrize("n_poolings", [1, 2, 3])
@pytest.mark.parametrize("spatial_dims", [2, 3])
def test_input_size_for_is_the_smallest_legal_size_that_covers(n_poolings: int, spatial_dims: int) -> None:
    step, loss = 2**n_poolings, 12 * 2**n_poolings - 8
    with torch.device("meta"):
        net = UNet(
            in_channels=1, num_classes=1, spatial_dims=spatial_dims, base_channels=1, n_poolings=n_poolings,
            padding="valid",
        )  # fmt: skip
        for wanted in range(1, 12):
            size = net.input_size_for([wanted] * spatial_dims)
            out = net(torch.empty(1, 1, *size)).shape[-1]
            assert out == size[-1] - loss and wanted <= out
            assert out - step < max(wanted, 1), "a smaller legal size would do"


def test_an_illegal_valid_size_is_refused_with_the_next_legal_one() -> None:
    net = UNet(in_channels=1, num_classes=2, base_channels=1, padding="valid")
    for size, legal in [((570, 572), "572x572"), ((573, 188), "588x188"), ((10, 200), "188x204")]:
        with pytest.raises(ShapeError) as caught:
            net(torch.zeros(1, 1, *size))
        assert f"pad to {legal}" in caught.value.fix and "188, 204, 220" in caught.value.allowed
    with pytest.raises(ShapeError, match="with C=1"):
        net(torch.zeros(1, 2, 188, 188))


def test_valid_tiles_stitch_to_one_big_forward() -> None:
    torch.manual_seed(0)
    net = UNet(in_channels=1, num_classes=2, base_channels=4, n_poolings=2, padding="valid").eval()
    tile_out, tile_in = 8, net.input_size_for((8, 8))[0]
    image = torch.rand(1, 1, *net.input_size_for((16, 24)))
    with torch.no_grad():
        whole = net(image)
        rows = [
            torch.cat([net(image[..., top : top + tile_in, left : left + tile_in]) for left in (0, 8, 16)], dim=-1)
            for top in (0, tile_out)
        ]
    assert whole.shape[2:] == (16, 24)
    torch.testing.assert_close(torch.cat(rows, dim=-2), whole, rtol=1e-4, atol=1e-5)


def test_valid_logits_are_the_centre_of_the_same_padded_ones_far_from_the_border() -> None:
    """With one pooling; with more, the pooling grids of the two modes lie differently."""
    torch.manual_seed(0)
    valid = UNet(in_channels=1, num_classes=2, base_channels=4, n_poolings=1, padding="valid").eval()
    same = UNet(in_channels=1, num_classes=2, base_channels=4, n_poolings=1).eval()
    same.load_state_dict(valid.state_dict())
    image = torch.rand(1, 1, 64, 64)
    with torch.no_grad():
        small, large = valid(image), same(image)
    assert small.shape[-1] == 64 - 16
    torch.testing.assert_close(small[..., 8:-8, 8:-8], large[..., 16:-16, 16:-16], rtol=1e-4, atol=1e-5)


def test_order_of_skip_and_upsampled_is_immaterial() -> None:
    torch.manual_seed(0)
    net = UNet(in_channels=1, num_classes=2, base_channels=4, n_poolings=1).eval()
    level, image = net.decoder[0], torch.rand(1, 1, 16, 16)
    with torch.no_grad():
        skip = net.encoder[0](image)
        below = net.encoder[1](net.pool(skip))
        expected = level(below, skip)
        conv = level.conv.first.conv
        conv.weight.copy_(torch.cat([conv.weight[:, 4:], conv.weight[:, :4]], dim=1))
        swapped = level.conv(torch.cat([level.up(below), skip], dim=1))
    torch.testing.assert_close(swapped, expected)


def test_dropout_stands_at_the_end_of_the_contracting_path_only() -> None:
    torch.manual_seed(0)
    net = UNet(in_channels=1, num_classes=2, base_channels=4, n_poolings=2, dropout=0.5).train()
    seen: list[int] = []
    net.dropout.register_forward_hook(lambda module, args, out: seen.append(out.shape[1]))
    image = torch.rand(1, 1, 16, 16)
    assert not torch.equal(net(image), net(image))
    assert seen == [8, 16, 8, 16]  # the two deepest levels, twice
    assert torch.equal(net.eval()(image), net(image))
