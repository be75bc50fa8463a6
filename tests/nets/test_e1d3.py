"""E1D3 U-Net: published counts, independent decoders, and the nested fusion of the regions."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from seglab.errors import ShapeError
from seglab.nets.e1d3 import E1D3UNet, fuse_nested


def n_parameters(net: nn.Module) -> int:
    return sum(parameter.numel() for parameter in net.parameters())


def small(num_classes: int = 4, spatial_dims: int = 2) -> E1D3UNet:
    torch.manual_seed(0)
    return E1D3UNet(in_channels=1, num_classes=num_classes, spatial_dims=spatial_dims, base_channels=2)


def region_losses(regions: list[Tensor], mask: Tensor) -> list[Tensor]:
    """Cross entropy of each region against all that lies outside it."""
    return [F.cross_entropy(region, (mask >= level).long()) for level, region in enumerate(regions, start=1)]


def nested_rule(margins: Tensor) -> Tensor:
    """Class of each pixel: regions that hold before the first that does not. (N, K - 1, ...) -> (N, ...)."""
    return (margins > 0).long().cumprod(dim=1).sum(dim=1)


def as_regions(margins: Tensor) -> list[Tensor]:
    """Two logits per region with the given margins, both far from zero."""
    return [torch.cat([margin - 3.0, 2 * margin - 3.0], dim=1) for margin in margins.split(1, dim=1)]


def test_count_of_every_part_is_the_published_one() -> None:
    with torch.device("meta"):
        net = E1D3UNet(in_channels=4, num_classes=4)
    assert n_parameters(net) == 34_937_961
    assert n_parameters(net.encoder) == 8_269_830
    assert [n_parameters(decoder) for decoder in net.decoders] == [8_889_377] * 3


def test_a_patch_of_96_gives_three_pairs_of_maps_and_four_classes() -> None:
    with torch.device("meta"):
        net, image = E1D3UNet(in_channels=4, num_classes=4), torch.empty(2, 4, 96, 96, 96)
        assert [region.shape for region in net.forward_regions(image)] == [(2, 2, 96, 96, 96)] * 3
        assert net(image).shape == (2, 4, 96, 96, 96)


def test_the_encoder_halves_by_strided_convolutions_without_norm() -> None:
    with torch.device("meta"):
        encoder = E1D3UNet(in_channels=4, num_classes=2).encoder
    assert [(down.in_channels, down.out_channels, down.kernel_size) for down in encoder.downs] == [
        (width, width, (3, 3, 3)) for width in (30, 60, 120, 240)
    ]
    assert [[part.conv.out_channels for part in level] for level in encoder.levels] == [
        [30, 30],
        [60, 60],
        [120, 120],
        [240, 240],
        [480],
    ]


def test_weights_are_he_normal_and_every_bias_is_a_tenth() -> None:
    torch.manual_seed(0)
    net = E1D3UNet(in_channels=1, num_classes=2, base_channels=6)
    convs = [m for m in net.modules() if isinstance(m, nn.Conv3d | nn.ConvTranspose3d)]
    assert all((conv.bias == torch.tensor(0.1)).all() for conv in convs)
    deepest = net.encoder.levels[4][0].conv  # 48 to 96 channels
    assert deepest.weight.std().item() == pytest.approx((2 / (48 * 27)) ** 0.5, rel=0.02)
    assert {(act.negative_slope) for act in net.modules() if isinstance(act, nn.LeakyReLU)} == {0.01}


@pytest.mark.parametrize("trained", [0, 1, 2])
def test_the_loss_of_one_region_moves_the_encoder_and_its_own_decoder_only(trained: int) -> None:
    net, mask = small().train(), torch.randint(0, 4, (2, 32, 32))
    region_losses(net.forward_regions(torch.rand(2, 1, 32, 32)), mask)[trained].backward()
    assert all(parameter.grad is not None for parameter in net.encoder.parameters())
    assert net.encoder.levels[0][0].conv.weight.grad.abs().max() > 0
    for index, decoder in enumerate(net.decoders):
        touched = [parameter.grad is not None for parameter in decoder.parameters()]
        assert all(touched) if index == trained else not any(touched)
    assert net.decoders[trained].head.weight.grad.abs().max() > 0


def test_swapped_decoders_swap_their_outputs_and_so_the_losses_of_equal_targets() -> None:
    net, image = small().eval(), torch.rand(1, 1, 32, 32)
    mask = torch.full((1, 32, 32), 3)  # inside every region
    with torch.no_grad():
        before = region_losses(net.forward_regions(image), mask)
        net.decoders = nn.ModuleList([net.decoders[2], net.decoders[0], net.decoders[1]])
        after = region_losses(net.forward_regions(image), mask)
    torch.testing.assert_close(torch.stack(after), torch.stack([before[2], before[0], before[1]]))


@pytest.mark.parametrize("n_regions", [1, 2, 3, 6])
def test_the_argmax_of_the_fusion_is_the_nested_rule(n_regions: int) -> None:
    torch.manual_seed(0)
    margins = torch.randn(4, n_regions, 25, 40, dtype=torch.float64) + 0.5
    logits = fuse_nested(as_regions(margins))
    assert logits.shape == (4, n_regions + 1, 25, 40)
    labels = logits.argmax(dim=1)
    assert torch.equal(labels, nested_rule(margins))
    assert set(labels.unique().tolist()) == set(range(n_regions + 1))


def test_every_pattern_of_signs_follows_the_nested_rule() -> None:
    margins = torch.cartesian_prod(*[torch.tensor([-2.0, -0.5, 0.0, 0.5, 2.0])] * 3)[:, :, None, None]
    assert torch.equal(fuse_nested(as_regions(margins)).argmax(dim=1), nested_rule(margins))


def test_fusion_by_hand() -> None:
    margins = torch.tensor([[2.0, -1.0, 5.0], [1.0, 3.0, 2.0], [-4.0, 9.0, 9.0]])[:, :, None, None]
    expected = torch.tensor([[0.0, 2, 1, 0], [0, 1, 2, 3], [0, -4, -8, -12]])
    torch.testing.assert_close(fuse_nested(as_regions(margins))[..., 0, 0], expected)


def test_regions_are_nested_in_the_prediction_of_a_network() -> None:
    net, image = small().eval(), torch.rand(2, 1, 48, 32)
    with torch.no_grad():
        regions, labels = net.forward_regions(image), net(image).argmax(dim=1)
    inside = [region.argmax(dim=1) == 1 for region in regions]
    assert torch.equal(labels >= 1, inside[0])
    assert torch.equal(labels >= 2, inside[0] & inside[1])
    assert torch.equal(labels >= 3, inside[0] & inside[1] & inside[2])


def test_two_classes_have_the_probabilities_of_the_only_decoder() -> None:
    net, image = small(num_classes=2).eval(), torch.rand(1, 1, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(net(image).softmax(dim=1), net.forward_regions(image)[0].softmax(dim=1))


def test_training_outputs_are_the_regions_and_their_fusion() -> None:
    net, image = small().eval(), torch.rand(1, 1, 32, 32)
    with torch.no_grad():
        *regions, fused = net.training_outputs(image)
        assert all(map(torch.equal, regions, net.forward_regions(image)))
        assert len(regions) == 3 and torch.equal(fused, net(image))


def test_the_sum_of_the_region_losses_reaches_every_decoder() -> None:
    net, mask = small().train(), torch.randint(0, 4, (2, 32, 32))
    torch.stack(region_losses(net.forward_regions(torch.rand(2, 1, 32, 32)), mask)).mean().backward()
    assert all(decoder.levels[0].up.weight.grad.abs().max() > 0 for decoder in net.decoders)


@pytest.mark.parametrize(("size", "wanted"), [((16, 16), "16x32"), ((9, 3), "16x32"), ((40, 16), "48x16")])
def test_a_single_pixel_on_the_deepest_level_is_refused(size: tuple[int, int], wanted: str) -> None:
    net = small()
    with pytest.raises(ShapeError, match=f"pad to {wanted}"):
        net(torch.zeros(1, 1, *size))
    legal = net.input_size_for(size)
    assert "x".join(map(str, legal)) == wanted and net.eval()(torch.zeros(1, 1, *legal)).isfinite().all()


def test_nested_discs_are_learned() -> None:
    rows, columns = torch.meshgrid(torch.arange(32), torch.arange(32), indexing="ij")
    distance = ((rows - 16) ** 2 + (columns - 15) ** 2).float().sqrt()
    mask = sum((distance < radius).long() for radius in (12, 8, 4))[None]
    torch.manual_seed(0)
    image = mask[:, None] / 3 + 0.1 * torch.randn(1, 1, 32, 32)
    net = E1D3UNet(in_channels=1, num_classes=4, spatial_dims=2, base_channels=4)
    optimizer = torch.optim.Adam(net.parameters(), lr=0.01)
    for _ in range(40):
        optimizer.zero_grad()
        sum(region_losses(net.forward_regions(image), mask)).backward()
        optimizer.step()
    pred = net(image).argmax(dim=1)
    for label in range(4):
        overlap = ((pred == label) & (mask == label)).sum()
        assert 2 * overlap / ((pred == label).sum() + (mask == label).sum()) > 0.95
