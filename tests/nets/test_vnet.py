"""V-Net: published layouts, the paper's table of receptive fields, residual stages."""

import pytest
import torch
from torch import Tensor, nn

from seglab.nets.vnet import Stage, VNet, tile


def n_parameters(net: nn.Module) -> int:
    return sum(parameter.numel() for parameter in net.parameters())


def paper(layout: str = "paper", **arguments: object) -> VNet:
    with torch.device("meta"):
        return VNet(in_channels=1, num_classes=2, layout=layout, **arguments)


def n_convs(stages: list[Stage]) -> list[int]:
    return [len(stage.convs) for stage in stages]


@pytest.mark.parametrize(
    ("layout", "down", "up", "count"),
    [("paper", [1, 2, 3, 3, 3], [3, 3, 2, 1], 65_175_314), ("prototxt", [1, 1, 2, 3, 3], [3, 2, 1, 1], 61_982_682)],
)
def test_layout_and_count_are_the_published_ones(layout: str, down: list[int], up: list[int], count: int) -> None:
    net = paper(layout)
    assert n_convs(net.encoder) == down and n_convs([up_stage.stage for up_stage in net.decoder]) == up
    assert n_parameters(net) == count


def test_channels_are_those_of_the_paper() -> None:
    net = paper()
    assert [stage.channels for stage in net.encoder] == [16, 32, 64, 128, 256]
    assert [level.up.conv.out_channels for level in net.decoder] == [128, 64, 32, 16]
    assert [level.stage.channels for level in net.decoder] == [256, 128, 64, 32]
    kernels = {conv.kernel_size for conv in net.modules() if isinstance(conv, nn.Conv3d | nn.ConvTranspose3d)}
    assert kernels == {(1, 1, 1), (2, 2, 2), (5, 5, 5)}


def test_a_volume_of_the_paper_keeps_its_size() -> None:
    with torch.device("meta"):
        assert paper()(torch.empty(1, 1, 128, 128, 64)).shape == (1, 2, 128, 128, 64)


def test_the_head_of_the_prototxt_has_a_5_wide_convolution_to_the_classes_first() -> None:
    head = paper("prototxt").head
    assert [conv.kernel_size[0] for conv in (head.wide.conv, head.out)] == [5, 1]
    assert head.wide.conv.out_channels == 2 and head.wide.act.num_parameters == 2
    assert paper().head.kernel_size == (1, 1, 1)


def test_receptive_fields_are_those_of_the_papers_table() -> None:
    """Fields by the usual recurrence over the convolutions in the order in which they run."""
    net, field, jump, fields = paper(), 1.0, 1.0, []

    def grow(module: nn.Module, args: tuple[Tensor, ...], out: Tensor) -> None:
        nonlocal field, jump
        if isinstance(module, nn.ConvTranspose3d):
            jump /= 2
            field += jump
        elif isinstance(module, nn.Conv3d):
            field += (module.kernel_size[0] - 1) * jump
            jump *= module.stride[0]
        elif isinstance(module, Stage):
            fields.append(field)

    for module in net.modules():
        module.register_forward_hook(grow)
    with torch.device("meta"):
        net(torch.empty(1, 1, 16, 16, 16))
    assert fields == [5, 22, 72, 172, 372, 476, 528, 546, 551]


@pytest.mark.parametrize(("level", "field"), enumerate([5, 22, 72, 172, 372]))
def test_a_gradient_reaches_as_far_as_the_table_says(level: int, field: int) -> None:
    """In a strip, with positive weights, so that no two ways cancel each other."""
    torch.manual_seed(0)
    net = VNet(in_channels=1, num_classes=1, spatial_dims=2, base_channels=1).double()
    for parameter in net.parameters():
        nn.init.constant_(parameter, 0.5)
    x = image = torch.ones(1, 1, 16, 1024, dtype=torch.float64, requires_grad=True)
    for index in range(level + 1):
        x = net.encoder[index](net.downs[index - 1](x) if index else x)
    x[0, 0, 0, x.shape[-1] // 2].backward()
    reached = image.grad[0, 0].abs().sum(dim=0).nonzero()
    assert reached.max() - reached.min() + 1 == field == len(reached)


def test_the_logits_see_532_or_548_pixels() -> None:
    """The table's 551 counts an up-convolution as 2 wide, but each of its outputs sees a single input."""
    torch.manual_seed(0)
    net = VNet(in_channels=1, num_classes=1, spatial_dims=2, base_channels=1).double()
    for parameter in net.parameters():
        nn.init.constant_(parameter, 0.5)
    seen = []
    for place in range(640, 656):
        image = torch.ones(1, 1, 16, 1280, dtype=torch.float64, requires_grad=True)
        net(image)[0, 0, 8, place].backward()
        reached = image.grad[0, 0].abs().sum(dim=0).nonzero()
        seen.append(int(reached.max() - reached.min() + 1))
    assert seen == [548] * 2 + [532] * 12 + [548] * 2  # by the place in the grid of the deepest stage


@pytest.mark.parametrize("layout", ["paper", "prototxt"])
def test_a_shift_by_the_total_stride_shifts_the_logits(layout: str) -> None:
    """The twin of the contract's test, on a strip that is long enough for the field of this network."""
    torch.manual_seed(0)
    net = VNet(in_channels=1, num_classes=2, spatial_dims=2, base_channels=2, layout=layout).eval()
    image = torch.rand(1, 1, 16, 640)
    with torch.no_grad():
        left, right = net(image[..., :624]), net(image[..., 16:])
    torch.testing.assert_close(left[..., 312:320], right[..., 296:304], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("n_stage_convs", [1, 2, 3])
def test_a_stage_without_convolutions_is_the_prelu_of_its_input(n_stage_convs: int) -> None:
    torch.manual_seed(0)
    stage, x = Stage(2, 3, 3, n_stage_convs, norm=None, dropout=0.0), torch.randn(1, 3, 8, 8)
    nn.init.uniform_(stage.act.weight)
    for parameter in stage.convs.parameters():
        nn.init.zeros_(parameter)
    with torch.no_grad():
        torch.testing.assert_close(stage(x), torch.where(x > 0, x, stage.act.weight[:, None, None] * x))


def test_a_decoder_stage_adds_the_upsampled_and_the_skip_in_this_order() -> None:
    torch.manual_seed(0)
    level = VNet(in_channels=1, num_classes=2, spatial_dims=2, base_channels=2).decoder[0]
    for parameter in level.stage.convs.parameters():
        nn.init.zeros_(parameter)
    below, skip = torch.rand(1, 32, 2, 2), torch.rand(1, 16, 4, 4)
    with torch.no_grad():
        out = level(below, skip)  # (1, 32, 4, 4)
        torch.testing.assert_close(out[:, 16:], skip)  # not negative, so the PReLU keeps it
        torch.testing.assert_close(out[:, :16], level.stage.act(torch.cat([level.up(below), skip], dim=1))[:, :16])


def test_the_image_is_tiled_onto_the_first_stage() -> None:
    image = torch.rand(2, 3, 4, 4)
    assert torch.equal(tile(image[:, :1], 16), image[:, :1].expand(2, 16, 4, 4))
    assert torch.equal(tile(image, 8), image[:, [0, 1, 2, 0, 1, 2, 0, 1]])
    assert torch.equal(tile(image, 2), image[:, :2])
    assert tile(image, 3) is image


def test_weights_have_the_spread_of_the_published_filler_and_biases_are_zero() -> None:
    torch.manual_seed(0)
    net = VNet(in_channels=1, num_classes=2, base_channels=4)
    for conv in (net.encoder[4].convs[0].conv, net.downs[3].conv, net.decoder[0].up.conv, net.encoder[0].convs[0].conv):
        n_average = (conv.in_channels + conv.out_channels) / 2 * conv.kernel_size[0] ** 3
        assert conv.weight.std().item() == pytest.approx((2 / n_average) ** 0.5, rel=0.1)
        assert conv.bias.abs().max() == 0
    assert all((act.weight == 0.25).all() for act in net.modules() if isinstance(act, nn.PReLU))


def test_a_norm_follows_every_convolution_but_the_last() -> None:
    for layout in ("paper", "prototxt"):
        modules = list(paper(layout, norm="batch").modules())
        n_norms = sum(isinstance(module, nn.BatchNorm3d) for module in modules)
        assert n_norms == sum(isinstance(module, nn.Conv3d | nn.ConvTranspose3d) for module in modules) - 1
    assert not any(isinstance(module, nn.BatchNorm3d) for module in paper().modules())


def test_dropout_takes_channels_in_the_two_deepest_stages_on_either_way() -> None:
    torch.manual_seed(0)
    net = VNet(in_channels=1, num_classes=2, spatial_dims=2, base_channels=2, dropout=0.5).train()
    assert [stage.dropout.p for stage in net.encoder] == [0, 0, 0, 0.5, 0.5]
    assert [level.stage.dropout.p for level in net.decoder] == [0.5, 0.5, 0, 0]
    dropped = net.encoder[4].dropout(torch.ones(1, 32, 4, 4))
    assert set(dropped.mean(dim=(2, 3)).unique().tolist()) == {0.0, 2.0}  # whole channels
    image = torch.rand(1, 1, 16, 16)
    assert not torch.equal(net(image), net(image))
    assert torch.equal(net.eval()(image), net(image))
