"""3D U-Net: the published count, the paper's tile, and the norm in front of each ReLU."""

import pytest
import torch
from torch import nn

from seglab.errors import ShapeError
from seglab.nets.unet3d import UNet3D


def n_parameters(net: nn.Module) -> int:
    return sum(parameter.numel() for parameter in net.parameters())


def paper(**arguments: object) -> UNet3D:
    with torch.device("meta"):
        return UNet3D(**({"in_channels": 3, "num_classes": 3} | arguments))


def test_the_published_count_is_that_of_the_convolutions_without_the_batch_norms() -> None:
    net = paper()
    convs = [m for m in net.modules() if isinstance(m, nn.Conv3d | nn.ConvTranspose3d)]
    norms = [m for m in net.modules() if isinstance(m, nn.BatchNorm3d)]
    assert sum(map(n_parameters, convs)) == 19_069_955
    assert sum(map(n_parameters, norms)) == 4_672 == 2 * sum(norm.num_features for norm in norms)
    assert n_parameters(net) == 19_069_955 + 4_672
    assert n_parameters(paper(norm=None)) == 19_069_955


def test_the_count_needs_up_convolutions_without_biases() -> None:
    ups = [level.up for level in paper().decoder]
    assert all(up.bias is None for up in ups)
    biases = sum(up.out_channels for up in ups)
    assert biases == 512 + 256 + 128  # with them it would be 19,070,851


def test_channels_double_in_front_of_the_pooling_and_stay_in_the_up_convolution() -> None:
    net = paper()
    assert [(level.first.conv.out_channels, level.second.conv.out_channels) for level in net.encoder] == [
        (32, 64),
        (64, 128),
        (128, 256),
        (256, 512),
    ]
    assert [(level.up.in_channels, level.up.out_channels) for level in net.decoder] == [
        (512, 512),
        (256, 256),
        (128, 128),
    ]
    assert [level.conv.first.conv.in_channels for level in net.decoder] == [256 + 512, 128 + 256, 64 + 128]
    assert [level.conv.second.conv.out_channels for level in net.decoder] == [256, 128, 64]


def test_the_norm_stands_in_front_of_the_relu() -> None:
    net = paper()
    for level in [*net.encoder, *(level.conv for level in net.decoder)]:
        for part in (level.first, level.second):
            assert [type(layer) for layer in part] == [nn.Conv3d, nn.BatchNorm3d, nn.ReLU]


def test_the_paper_tile_gives_44x44x28() -> None:
    net = paper(padding="valid")
    with torch.device("meta"):
        assert net(torch.empty(1, 3, 132, 132, 116)).shape == (1, 3, 44, 44, 28)
    assert net.input_size_for((44, 44, 28)) == (132, 132, 116)
    with torch.device("meta"):
        assert paper()(torch.empty(1, 3, 128, 128, 64)).shape == (1, 3, 128, 128, 64)


def test_input_size_for_is_the_smallest_legal_valid_size_that_covers() -> None:
    net = paper(padding="valid", spatial_dims=2, base_channels=1)
    with torch.device("meta"):
        for wanted in range(1, 24):
            size = net.input_size_for((wanted, 4))
            out = net(torch.empty(1, 3, *size)).shape
            assert size[1] == 92 and out[-1] == 4
            assert wanted <= out[-2] == size[0] - 88
            assert out[-2] - 8 < max(wanted, 1), "a smaller legal size would do"


def test_an_illegal_valid_size_is_refused_with_the_next_legal_one() -> None:
    net = UNet3D(in_channels=1, num_classes=2, spatial_dims=2, base_channels=1, padding="valid")
    for size, legal in [((130, 132), "132x132"), ((93, 92), "100x92"), ((10, 200), "92x204")]:
        with pytest.raises(ShapeError) as caught:
            net(torch.zeros(1, 1, *size))
        assert f"pad to {legal}" in caught.value.fix and "92, 100, 108" in caught.value.allowed
    with pytest.raises(ShapeError, match="with C=1"):
        net(torch.zeros(1, 2, 92, 92))


def test_valid_tiles_stitch_to_one_big_forward() -> None:
    torch.manual_seed(0)
    net = UNet3D(in_channels=1, num_classes=2, spatial_dims=2, base_channels=2, padding="valid").eval()
    tile_in = net.input_size_for((12, 12))[0]
    image = torch.rand(1, 1, tile_in, net.input_size_for((28, 28))[0])
    with torch.no_grad():
        whole = net(image)
        tiles = [net(image[..., left : left + tile_in]) for left in (0, 8, 16)]
    assert whole.shape[2:] == (12, 28)
    for index, tile in enumerate(tiles):
        torch.testing.assert_close(tile, whole[..., 8 * index : 8 * index + 12], rtol=1e-4, atol=1e-5)
