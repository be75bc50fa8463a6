"""BS U-Net and its encoding network: their stages, what the bottleneck term reaches, and how label maps are learned."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from seglab.nets.bsunet import BSUNet, DilatedDown, EncodingUNet

both = pytest.mark.parametrize("cls", [BSUNet, EncodingUNet])


def small(cls: type[BSUNet] | type[EncodingUNet], **arguments: int) -> BSUNet | EncodingUNet:
    torch.manual_seed(0)
    return cls(**({"in_channels": 1, "num_classes": 1, "base_channels": 4} | arguments))


def gradient_sizes(module: nn.Module) -> list[float]:
    """Largest gradient of each parameter, the biases that a norm takes off with the mean left out."""
    norm_free = [p for name, p in module.named_parameters() if not name.endswith("conv.bias")]
    return [p.grad.abs().max().item() for p in norm_free]


@both
def test_every_stage_has_the_published_width_and_size(cls: type[BSUNet] | type[EncodingUNet]) -> None:
    shapes = []
    with torch.device("meta"):
        net = cls(in_channels=1, num_classes=1)
        for stage in (net.encoder.first, *net.encoder.downs, net.encoder.last, net.encoder.dense, *net.decoder):
            stage.register_forward_hook(lambda module, args, out: shapes.append(tuple(out.shape[1:3])))
        logits, feature = net.forward_bottleneck(torch.empty(1, 1, 512, 512))
    assert shapes[:6] == [(8, 512), (16, 256), (32, 128), (64, 64), (96, 32), (128, 16)]
    assert shapes[6:8] == [(256, 16), (128, 16)]
    assert shapes[8:] == [(96, 32), (64, 64), (32, 128), (16, 256), (16, 512)]
    assert feature.shape == (1, 128, 16, 16) and logits.shape == (1, 1, 512, 512)


def test_inner_widths_and_skips_are_the_published_ones() -> None:
    with torch.device("meta"):
        net, encoding = BSUNet(in_channels=1, num_classes=1), EncodingUNet(in_channels=1, num_classes=1)
    assert [down.branches[0].out_channels for down in net.encoder.downs] == [16, 16, 32, 64, 96]
    assert [up[0].conv.in_channels for up in net.decoder] == [256, 192, 128, 64, 32]  # a skip beside each input
    assert [up[0].conv.in_channels for up in encoding.decoder] == [128, 96, 64, 32, 16]
    assert [up[0].conv.out_channels for up in net.decoder] == [128, 96, 64, 32, 16]
    assert net.head.kernel_size == (1, 1) and encoding.head.kernel_size == (3, 3)


def test_sizes_shrink_by_strides_and_never_by_pooling() -> None:
    pools = [module for module in small(BSUNet).modules() if isinstance(module, nn.MaxPool2d)]
    assert len(pools) == 2 and all(pool.stride == 1 for pool in pools)  # one per inception block
    assert all(down.down.stride == (2, 2) for down in small(BSUNet).encoder.downs)


def test_the_branches_of_a_down_see_3_7_and_11_pixels() -> None:
    down = DilatedDown(2, 1, 1, 1)
    for branch, field in zip(down.branches, (3, 7, 11), strict=True):
        nn.init.ones_(branch.weight)
        image = torch.ones(1, 1, 21, 21, requires_grad=True)
        branch(image)[0, 0, 10, 10].backward()
        rows, columns = image.grad[0, 0].nonzero(as_tuple=True)
        assert (rows.min(), rows.max()) == (columns.min(), columns.max()) == (10 - field // 2, 10 + field // 2)


@pytest.mark.parametrize("spatial_dims", [2, 3])
def test_both_networks_have_bottlenecks_of_one_shape(spatial_dims: int) -> None:
    size = (64, 96, 32)[:spatial_dims]
    with torch.device("meta"):
        net = BSUNet(in_channels=3, num_classes=2, spatial_dims=spatial_dims)
        encoding = EncodingUNet(in_channels=1, num_classes=2, spatial_dims=spatial_dims)
        shapes = [n.forward_bottleneck(torch.empty(2, n.in_channels, *size))[1].shape for n in (net, encoding)]
    assert shapes[0] == shapes[1] == (2, 128, *(length // 32 for length in size))


@both
def test_the_logits_beside_the_bottleneck_are_those_of_forward(cls: type[BSUNet] | type[EncodingUNet]) -> None:
    net, image = small(cls).eval(), torch.rand(1, 1, 64, 32)
    with torch.no_grad():
        assert torch.equal(net.forward_bottleneck(image)[0], net(image))


def test_the_encoding_network_knows_its_input_by_the_bottleneck_alone() -> None:
    net, image = small(EncodingUNet).eval(), torch.rand(1, 1, 64, 64)
    with torch.no_grad():
        logits, feature = net.forward_bottleneck(image)
        assert torch.equal(net.head(net.decoder(feature)), logits)


def test_the_bottleneck_term_alone_reaches_the_encoder_and_no_up_nor_head() -> None:
    net, encoding = small(BSUNet).train(), small(EncodingUNet).eval()
    torch.manual_seed(1)
    image, mask = torch.rand(2, 1, 64, 64), (torch.rand(2, 1, 64, 64) > 0.5).float()
    logits, feature = net.forward_bottleneck(image)
    target = encoding.forward_bottleneck(mask)[1].detach()
    (0.0 * logits.sigmoid().mean() + F.mse_loss(feature, target)).backward()  # w1 = 0, w2 = 1
    for stage in (net.encoder.first, *net.encoder.downs, net.encoder.last, net.encoder.dense):
        assert min(gradient_sizes(stage)) > 0
    assert all(p.grad.abs().max() == 0 for part in (net.decoder, net.head) for p in part.parameters())
    assert all(p.grad is None for p in encoding.parameters())


@both
def test_no_filter_that_sees_a_label_map_first_is_dead(cls: type[BSUNet] | type[EncodingUNet]) -> None:
    net = small(cls, base_channels=8)
    mask = torch.zeros(1, 1, 32, 32)
    mask[..., 8:20, 8:20] = 1
    branches = net.encoder.first.branches
    for conv in (branches[0], branches[1][1], branches[2][0], branches[3][0]):
        assert (conv(mask).amax(dim=(0, 2, 3)) > 0).all()


def test_a_shift_by_32_pixels_shifts_the_logits() -> None:
    net, margin = small(BSUNet).eval(), 512
    image = torch.rand(1, 1, 32, 2 * margin + 96)
    with torch.no_grad():
        left, right = net(image[..., :-32]), net(image[..., 32:])
    left, right = left[..., margin + 32 : -margin], right[..., margin : -margin - 32]
    torch.testing.assert_close(left, right, rtol=1e-4, atol=1e-5)
    assert left.std() > 1e-3


@pytest.mark.slow
def test_the_encoding_network_learns_to_reproduce_label_maps() -> None:
    net, mask = small(EncodingUNet).train(), discs()
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-2)
    for _ in range(40):
        probs = net(mask).sigmoid()
        loss = 1 - dice(probs, mask)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert dice((probs > 0.5).float(), mask) > 0.95


def discs() -> Tensor:
    """Two label maps of 64x64 pixels with one disc each."""
    rows, columns = torch.meshgrid(torch.arange(64), torch.arange(64), indexing="ij")
    centres = ((20, 40, 12), (44, 24, 9))
    return torch.stack([((rows - r) ** 2 + (columns - c) ** 2 < radius**2)[None].float() for r, c, radius in centres])


def dice(probs: Tensor, mask: Tensor) -> Tensor:
    """2 |A B| / (|A| + |B|)."""
    return 2 * (probs * mask).sum() / (probs.sum() + mask.sum())
