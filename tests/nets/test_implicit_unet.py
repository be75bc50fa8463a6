"""Implicit U-Net: points, grids and refined grids tell the same logits; few points teach all levels."""

import itertools
from collections.abc import Sequence

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from seglab.errors import ConfigError, ShapeError
from seglab.inference.points import sample_points
from seglab.losses.composite import CompositeLoss
from seglab.losses.overlap import DiceLoss
from seglab.losses.pixelwise import CrossEntropyLoss
from seglab.nets.implicit_points import doubtful_cells, halve_cells, node_points, refine, sample, voxel_centres
from seglab.nets.implicit_unet import POINTS_AT_ONCE, ImplicitUNet
from seglab.nets.unet import UNet


def small(spatial_dims: int = 3, num_classes: int = 3, base_channels: int = 4, n_poolings: int = 2) -> ImplicitUNet:
    torch.manual_seed(0)
    return ImplicitUNet(
        in_channels=1,
        num_classes=num_classes,
        spatial_dims=spatial_dims,
        base_channels=base_channels,
        n_poolings=n_poolings,
    ).eval()


def n_parameters(net: nn.Module) -> int:
    return sum(parameter.numel() for parameter in net.parameters())


def dice(a: Tensor, b: Tensor) -> float:
    return (2 * (a & b).sum() / (a.sum() + b.sum())).item()


@torch.no_grad()
def at_all_centres(net: ImplicitUNet, image: Tensor) -> Tensor:
    """Logits of every voxel centre, asked as points."""
    points = voxel_centres(image.shape[2:]).expand(len(image), -1, -1)
    return net.decode(net.encode(image), points).mT.reshape(len(image), -1, *image.shape[2:])


# Parameters


def test_about_40_percent_of_the_parameters_of_the_equal_unet_go() -> None:
    with torch.device("meta"):
        net = ImplicitUNet(in_channels=1, num_classes=2)
        twin = UNet(
            in_channels=1, num_classes=2, spatial_dims=3, base_channels=32, norm="instance", conv_bias=False
        )  # fmt: skip
    assert n_parameters(net.encoder) == n_parameters(twin.encoder) == 14_132_960
    assert n_parameters(net) == 14_746_146 and n_parameters(twin) == 22_578_306
    for equal in (22_578_306, 23_535_266):  # with up-convolutions; with trilinear upsampling
        assert 0.33 <= 1 - n_parameters(net) / equal <= 0.42
    assert n_parameters(net.decoder) < 0.05 * n_parameters(net)


def test_a_norm_removes_the_biases_that_the_twin_has_not() -> None:
    arguments = {"in_channels": 1, "num_classes": 2, "base_channels": 4, "n_poolings": 2, "norm": "instance"}
    logits = []
    for conv_bias in (True, False):
        torch.manual_seed(0)
        net = UNet(**arguments, conv_bias=conv_bias)
        for module in net.modules():
            if isinstance(module, nn.Conv2d) and module.kernel_size == (3, 3) and module.bias is not None:
                nn.init.normal_(module.bias, generator=torch.Generator().manual_seed(1))
        logits.append(net(torch.rand(1, 1, 16, 16, generator=torch.Generator().manual_seed(2))))
    torch.testing.assert_close(logits[0], logits[1], rtol=1e-4, atol=1e-5)


def test_widths_of_the_perceptrons() -> None:
    with torch.device("meta"):
        net = ImplicitUNet(in_channels=1, num_classes=2)
    inputs = [512 + 256 + 3, 256 + 128 + 3, 128 + 64 + 3, 64 + 32 + 3]
    assert [level.first.in_features for level in net.decoder.levels] == inputs
    assert [level.second.out_features for level in net.decoder.levels] == [256, 128, 64, 32]
    assert all(level.shortcut.bias is None for level in net.decoder.levels)


# Points


@pytest.mark.parametrize(("size", "tolerance"), [((4, 8, 16), 0.0), ((16, 32), 0.0), ((3, 5, 7), 1e-6)])
def test_sampling_at_a_voxel_centre_gives_the_voxel(size: Sequence[int], tolerance: float) -> None:
    torch.manual_seed(0)
    feature = torch.rand(2, 5, *size)
    sampled = sample(feature, voxel_centres(size).expand(2, -1, -1))
    torch.testing.assert_close(sampled, feature.flatten(2).mT, rtol=0, atol=tolerance)


def test_coordinates_are_in_axis_order_and_the_edge_goes_on_outside() -> None:
    feature = torch.arange(24.0).reshape(1, 1, 2, 3, 4)  # 12 z + 4 y + x
    points = torch.tensor([[[-0.5, 0.0, 0.75], [0.0, 0.0, 0.75], [9.0, 9.0, -9.0]]])
    assert sample(feature, points).flatten().tolist() == [0 + 4 + 3, 6 + 4 + 3, 12 + 8 + 0]
    assert voxel_centres((2, 2)).tolist() == [[-0.5, -0.5], [-0.5, 0.5], [0.5, -0.5], [0.5, 0.5]]


def test_sampling_in_half_precision_does_not_miss_its_voxel() -> None:
    feature = torch.arange(256.0).expand(1, 1, 1, 256).bfloat16()
    assert torch.equal(sample(feature, voxel_centres((1, 256))[None]).flatten(), feature.flatten())


def naive(net: ImplicitUNet, image: Tensor, points: Tensor) -> Tensor:
    """h = f5(p); for l = 4 ... 1: z = [h, f_l(p), p], h = lrelu(W2 lrelu(W1 z) + Ws z)."""
    *skips, deepest = [sample(feature, points) for feature in net.encode(image)]
    h = deepest
    for level, skip in zip(net.decoder.levels, reversed(skips), strict=True):
        z = torch.cat([h, skip, points], dim=-1)
        h = F.leaky_relu(level.second(F.leaky_relu(level.first(z), 0.01)) + level.shortcut(z), 0.01)
    return net.decoder.head(h)


@pytest.mark.parametrize("spatial_dims", [2, 3])
def test_projecting_before_sampling_is_the_perceptron_on_sampled_features(spatial_dims: int) -> None:
    net = small(spatial_dims)
    image, points = torch.rand(2, 1, *[16] * spatial_dims), torch.rand(2, 50, spatial_dims) * 2 - 1
    with torch.no_grad():
        logits, expected = net.decode(net.encode(image), points), naive(net, image, points)
    assert logits.shape == (2, 50, 3)
    torch.testing.assert_close(logits, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("size", "base_channels"), [((8, 16, 24), 4), ((16, 40), 4), ((512, 256), 1), ((64, 32, 40), 1)]
)
def test_the_dense_grid_equals_points_at_the_voxel_centres(size: tuple[int, ...], base_channels: int) -> None:
    net, image = small(len(size), base_channels=base_channels), torch.rand(2, 1, *size)
    assert (base_channels == 4) == (image[0].numel() < POINTS_AT_ONCE)  # one slab, or several
    with torch.no_grad():
        dense = net(image)
    torch.testing.assert_close(dense, at_all_centres(net, image), rtol=1e-5, atol=2e-6)


def test_the_order_of_the_points_does_not_matter_and_each_image_has_its_own() -> None:
    net, image = small(2), torch.rand(2, 1, 16, 16)
    points, order = torch.rand(2, 20, 2) * 2 - 1, torch.randperm(20)
    with torch.no_grad():
        features = net.encode(image)
        logits = net.decode(features, points)
        torch.testing.assert_close(net.decode(features, points[:, order]), logits[:, order])
        alone = net.decode([feature[1:] for feature in features], points[1:])
    torch.testing.assert_close(alone, logits[1:])


def test_a_handful_of_points_teaches_every_level_of_the_encoder() -> None:
    net = small().train()
    logits = net.decode(net.encode(torch.rand(1, 1, 16, 16, 16)), torch.rand(1, 5, 3) * 2 - 1)
    F.cross_entropy(logits.mT, torch.tensor([[0, 1, 2, 1, 0]])).backward()
    for key, parameter in net.named_parameters():
        assert parameter.grad.isfinite().all() and parameter.grad.abs().max() > 0, key


def test_features_halve_their_size_and_double_their_channels() -> None:
    with torch.device("meta"):
        net = ImplicitUNet(in_channels=1, num_classes=2)
        shapes = [tuple(feature.shape[1:3]) for feature in net.encode(torch.empty(1, 1, 64, 32, 32))]
    assert shapes == [(32, 64), (64, 32), (128, 16), (256, 8), (512, 4)]


@pytest.mark.parametrize("shape", [(2, 5, 2), (1, 5, 3), (5, 3)])
def test_points_that_do_not_fit_the_images_are_refused(shape: tuple[int, ...]) -> None:
    net = small()
    features = net.encode(torch.rand(2, 1, 8, 8, 8))
    with pytest.raises(ShapeError, match=r"allowed: \(2, P, 3\)"):
        net.decode(features, torch.zeros(shape))


def test_a_single_voxel_on_the_deepest_level_is_refused_with_the_size_to_pad_to() -> None:
    net = small()
    with pytest.raises(ShapeError, match="pad to 4x4x8"):
        net(torch.rand(1, 1, 4, 4, 4))
    assert net.input_size_for((3, 4, 1)) == (4, 4, 8) and net.input_size_for((3, 5, 1)) == (4, 8, 4)
    assert net(torch.rand(1, 1, 4, 4, 8)).shape == (1, 3, 4, 4, 8)


# Coarse to fine


@pytest.fixture(scope="module")
def sphere() -> tuple[ImplicitUNet, Tensor, Tensor]:
    """A network trained for 20 steps on points of a noisy sphere, its image, and its mask."""
    torch.manual_seed(0)
    axis = torch.arange(32) - 15.5
    mask = (axis[:, None, None] ** 2 + axis[:, None] ** 2 + axis**2 < 64).long()[None]
    image = mask[:, None] + 0.1 * torch.randn(1, 1, 32, 32, 32)
    net = small(num_classes=2).train()
    loss = CompositeLoss({"ce": CrossEntropyLoss(), "dice": DiceLoss()}, {"ce": 1.0, "dice": 1.0})
    optimizer, generator = torch.optim.Adam(net.parameters(), lr=0.03), torch.Generator().manual_seed(0)
    for _ in range(20):
        points, labels = sample_points(mask, 2048, generator=generator)
        optimizer.zero_grad()
        loss(net.decode(net.encode(image), points).mT, labels)["loss"].backward()
        optimizer.step()
    return net.eval(), image, mask


def test_training_on_points_finds_the_sphere(sphere: tuple[ImplicitUNet, Tensor, Tensor]) -> None:
    net, image, mask = sphere
    with torch.no_grad():
        assert dice(net(image).argmax(1) == 1, mask == 1) > 0.95


def test_refining_a_sphere_asks_few_points_and_finds_what_the_dense_grid_finds(
    sphere: tuple[ImplicitUNet, Tensor, Tensor],
) -> None:
    net, image, _ = sphere
    with torch.no_grad():
        dense = net(image)
    logits, n_points = net.predict_coarse_to_fine(image)
    assert n_points < 0.4 * image.numel()
    assert dice(logits.argmax(1) == 1, dense.argmax(1) == 1) >= 0.99
    is_equal = ((logits - dense).abs() < 1e-4).all(dim=1)
    assert is_equal.sum() > 0.95 * n_points  # where it was asked; the last node of an axis is asked before its voxel
    assert not is_equal.all()  # elsewhere it was interpolated


@pytest.mark.parametrize("size", [(16, 24, 20), (16, 36)])
@pytest.mark.parametrize(("stride", "threshold"), [(1, 0.9), (2, 1.0), (4, 1.0), (8, 1.0)])
def test_refining_everywhere_is_the_dense_grid(size: tuple[int, ...], stride: int, threshold: float) -> None:
    net, image = small(len(size)), torch.rand(2, 1, *size)
    logits, n_points = net.predict_coarse_to_fine(image, stride=stride, threshold=threshold)
    with torch.no_grad():
        torch.testing.assert_close(logits, net(image), rtol=1e-5, atol=2e-6)
    assert n_points >= image.numel() and (stride > 1 or n_points == image.numel())


@pytest.mark.parametrize(("stride", "threshold"), [(0, 0.9), (3, 0.9), (4, 1.5), (4, -0.1)])
def test_ill_refinement_is_refused(stride: int, threshold: float) -> None:
    with pytest.raises(ConfigError, match=f"stride={stride}, threshold={threshold}"):
        small(2).predict_coarse_to_fine(torch.rand(1, 1, 8, 8), stride=stride, threshold=threshold)


def refine_disc(length: int, stride: int, num_classes: int = 2) -> tuple[Tensor, Tensor, int]:
    """Labels of a disc, refined and exact, and the number of points."""

    def decode(points: Tensor) -> Tensor:
        inside = 40 * (0.6 - points.norm(dim=-1))
        return torch.stack([-inside, inside][-num_classes:], dim=-1)

    logits, n_points = refine(decode, (length, length), torch.device("cpu"), stride=stride, threshold=0.9)
    exact = decode(voxel_centres((length, length))).T.reshape(logits.shape)
    return logits[-1] > 0, exact[-1] > 0, n_points


@pytest.mark.parametrize("length", [61, 64, 67])
@pytest.mark.parametrize("stride", [1, 2, 4, 8])
def test_a_disc_is_found_exactly_at_any_size(length: int, stride: int) -> None:
    refined, exact, n_points = refine_disc(length, stride)
    assert torch.equal(refined, exact)
    assert n_points == length**2 if stride == 1 else n_points < 0.6 * length**2


def test_one_class_is_refined_where_its_sign_changes() -> None:
    refined, exact, n_points = refine_disc(64, 4, num_classes=1)
    assert torch.equal(refined, exact) and 17**2 < n_points < 0.6 * 64**2


def test_nodes_stand_at_every_stride_and_at_the_last_voxel() -> None:
    (along,) = (((node_points((length,), 4, torch.device("cpu"))[:, 0] + 1) * length - 1) / 2 for length in (10,))
    assert along.round().int().tolist() == [0, 4, 8, 9]
    assert len(node_points((9,), 4, torch.device("cpu"))) == 3 and len(node_points((2, 1), 4, torch.device("cpu"))) == 2


def test_a_cell_is_doubtful_if_its_corners_disagree_or_one_is_unsure() -> None:
    first = torch.tensor([[9.0, 9.0, 9.0, 9.0], [9.0, 9.0, 9.0, 0.5], [9.0, 9.0, 9.0, 9.0], [-9.0, 9.0, 9.0, 9.0]])
    cells = doubtful_cells(torch.stack([first, torch.zeros_like(first)]), threshold=0.9)
    assert cells.int().tolist() == [[0, 0, 1], [0, 0, 1], [1, 0, 0]]
    assert torch.equal(cells, doubtful_cells(-first[None], threshold=0.9))  # one class


def test_halving_keeps_old_nodes_and_asks_for_all_new_ones_around_a_cell() -> None:
    logits = torch.tensor([[[0.0, 2.0, 4.0], [6.0, 8.0, 10.0]]])
    known, cells = torch.ones(2, 3, dtype=torch.bool), torch.tensor([[True, False]])
    finer, was_known, todo = halve_cells(logits, known, cells)
    assert finer[0].tolist() == [[0, 1, 2, 3, 4], [3, 4, 5, 6, 7], [6, 7, 8, 9, 10]]
    assert was_known.int().tolist() == [[1, 0, 1, 0, 1], [0, 0, 0, 0, 0], [1, 0, 1, 0, 1]]
    assert todo.int().tolist() == [[0, 1, 0, 0, 0], [1, 1, 1, 0, 0], [0, 1, 0, 0, 0]]


def test_coordinates_tell_apart_places_that_look_the_same() -> None:
    net, image = small(2), torch.zeros(1, 1, 16, 16)
    with torch.no_grad():
        logits = net(image)
    centre = logits[0, 0, 4:12, 4:12].flatten()
    assert all(a != b for a, b in itertools.pairwise(centre.tolist()))
