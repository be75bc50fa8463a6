"""Attention U-Net: published counts of both forms, and what a gate does."""

import pytest
import torch
from torch import nn

from seglab.nets.attention_unet import AttentionGate, AttentionUNet, GridGate


def n_parameters(net: nn.Module) -> int:
    return sum(parameter.numel() for parameter in net.parameters())


@pytest.mark.parametrize(("in_channels", "count"), [(3, 34_878_573), (1, 34_877_421)])
def test_count_of_the_2d_form(in_channels: int, count: int) -> None:
    with torch.device("meta"):
        assert n_parameters(AttentionUNet(in_channels=in_channels, num_classes=1)) == count


@pytest.mark.parametrize(
    ("gates", "count"), [(None, 6_473_322), ("multi", 6_473_322), ("single", 6_214_151), ("none", 5_888_004)]
)
def test_count_of_the_3d_form(gates: str | None, count: int) -> None:
    with torch.device("meta"):
        assert n_parameters(AttentionUNet(in_channels=1, num_classes=4, spatial_dims=3, gates=gates)) == count


def test_default_width_is_64_for_lee2d_and_16_for_grid3d_in_either_dimension() -> None:
    with torch.device("meta"):
        for dims in (2, 3):
            for form, width in (("lee2d", 64), ("grid3d", 16)):
                net = AttentionUNet(in_channels=1, num_classes=2, spatial_dims=dims, form=form)
                assert net.encoder[0].first.conv.out_channels == width


def gate_and_inputs(kind: str) -> tuple[nn.Module, torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    if kind == "lee2d":
        return AttentionGate(2, 4, 2).eval(), torch.rand(1, 4, 8, 8), torch.rand(1, 4, 8, 8)
    return GridGate(3, 4, 8).eval(), torch.rand(1, 4, 8, 8, 8), torch.rand(1, 8, 4, 4, 4)  # g at half resolution


def last_score_layer(gate: nn.Module) -> nn.Module:
    return gate.psi if isinstance(gate, GridGate) else gate.score[1]


@pytest.mark.parametrize("kind", ["lee2d", "grid3d"])
def test_alpha_lies_between_zero_and_one_in_the_shape_of_x(kind: str) -> None:
    gate, x, g = gate_and_inputs(kind)
    alpha = gate.alpha(x, g)
    assert alpha.shape == (1, 1, *x.shape[2:]) and 0 < alpha.min() < alpha.max() < 1
    assert gate(x, g).shape == x.shape


@pytest.mark.parametrize("kind", ["lee2d", "grid3d"])
def test_a_zero_psi_gives_one_half_everywhere(kind: str) -> None:
    gate, x, g = gate_and_inputs(kind)
    nn.init.zeros_(last_score_layer(gate).weight)
    nn.init.zeros_(last_score_layer(gate).bias)
    torch.testing.assert_close(gate.alpha(x, g), torch.full_like(x[:, :1], 0.5))


def test_a_lee_gate_scales_its_skip() -> None:
    gate, x, g = gate_and_inputs("lee2d")
    torch.testing.assert_close(gate(x, g), x * gate.alpha(x, g))


def open_gates(net: AttentionUNet) -> None:
    """Saturate every gate and make the projections behind it the identity."""
    for module in net.modules():
        if isinstance(module, AttentionGate | GridGate):
            nn.init.zeros_(last_score_layer(module).weight)
            nn.init.constant_(last_score_layer(module).bias, 100.0)
    for level in net.decoder.levels:
        for gate in getattr(level, "gates", ()):
            make_identity(gate.out[0], gate.out[1])
            make_identity(level.combine.conv, level.combine.norm)


def make_identity(conv: nn.Module, norm: nn.Module) -> None:
    nn.init.dirac_(conv.weight)
    nn.init.zeros_(conv.bias)
    nn.init.constant_(norm.weight, (1 + norm.eps) ** 0.5)
    nn.init.zeros_(norm.bias)


@pytest.mark.parametrize(("form", "spatial_dims"), [("lee2d", 2), ("grid3d", 3)])
def test_open_gates_give_the_ungated_twin(form: str, spatial_dims: int) -> None:
    torch.manual_seed(0)
    arguments = {"in_channels": 1, "num_classes": 3, "spatial_dims": spatial_dims, "base_channels": 4, "form": form}
    gated = AttentionUNet(gates="single", **arguments).eval()
    twin = AttentionUNet(gates="none", **arguments).eval()
    missing, _ = twin.load_state_dict(gated.state_dict(), strict=False)
    assert not missing
    image = torch.rand(1, 1, *[32] * spatial_dims)
    with torch.no_grad():
        assert not torch.allclose(gated(image), twin(image), atol=1e-3)
        open_gates(gated)
        torch.testing.assert_close(gated(image), twin(image), rtol=1e-4, atol=1e-5)


def test_gates_stand_on_all_levels_in_2d_and_on_all_but_the_first_in_3d() -> None:
    with torch.device("meta"):
        lee = AttentionUNet(in_channels=1, num_classes=2)
        grid = AttentionUNet(in_channels=1, num_classes=2, spatial_dims=3)
    assert [level.gate is not None for level in lee.decoder.levels] == [True] * 4
    assert [len(level.gates) for level in grid.decoder.levels] == [2, 2, 2, 0]


def test_one_loss_on_one_output_reaches_every_deep_supervision_head() -> None:
    torch.manual_seed(0)
    net = AttentionUNet(in_channels=1, num_classes=4, spatial_dims=3, base_channels=4)
    net(torch.rand(2, 1, 32, 32, 32))[:, 1].mean().backward()
    assert len(net.decoder.heads) == 4
    assert all(head.weight.grad.abs().max() > 0 for head in net.decoder.heads)


def test_permuting_classes_permutes_the_supervision_weights() -> None:
    torch.manual_seed(0)
    net = AttentionUNet(in_channels=1, num_classes=3, spatial_dims=3, base_channels=4).eval()
    order, image = torch.tensor([2, 0, 1]), torch.rand(1, 1, 16, 16, 16)
    with torch.no_grad():
        expected = net(image)[:, order]
        for layer in net.decoder.heads:
            layer.weight.copy_(layer.weight[order])
            layer.bias.copy_(layer.bias[order])
        fuse = net.decoder.fuse
        columns = torch.cat([order + 3 * head for head in range(4)])
        fuse.weight.copy_(fuse.weight[order][:, columns])
        fuse.bias.copy_(fuse.bias[order])
        torch.testing.assert_close(net(image), expected)


def test_norm_scales_of_the_3d_form_start_near_one() -> None:
    torch.manual_seed(0)
    net = AttentionUNet(in_channels=1, num_classes=2, spatial_dims=3)
    scales = torch.cat([m.weight for m in net.modules() if isinstance(m, nn.BatchNorm3d)])
    assert scales.mean().item() == pytest.approx(1.0, abs=0.005)
    assert scales.std().item() == pytest.approx(0.02, rel=0.1)
