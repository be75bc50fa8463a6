"""Full Attention U-Net: the authors' count, which gates see what, and the three oddities of their code."""

from collections import Counter

import pytest
import torch
from torch import nn

from seglab.nets.full_attention_unet import FullAttentionUNet, SharedGate


def n_parameters(net: nn.Module) -> int:
    return sum(parameter.numel() for parameter in net.parameters())


def paper(in_channels: int = 1, **arguments: object) -> FullAttentionUNet:
    with torch.device("meta"):
        return FullAttentionUNet(in_channels=in_channels, num_classes=1, **arguments)


def small(**arguments: object) -> FullAttentionUNet:
    torch.manual_seed(0)
    return FullAttentionUNet(in_channels=1, num_classes=2, base_channels=4, **arguments)


@pytest.mark.parametrize(("in_channels", "count"), [(1, 54_068_973), (3, 54_070_125)])
@pytest.mark.parametrize("arguments", [{}, {"gate_own_level": True}, {"double_sigmoid": True}, {"variant": "advanced"}])
def test_every_variant_has_the_count_of_the_authors_code(
    in_channels: int, arguments: dict[str, object], count: int
) -> None:
    assert n_parameters(paper(in_channels, **arguments)) == count


def test_without_brought_skips_it_has_the_count_of_the_authors_attention_unet() -> None:
    net = paper()
    brought = sum(n_parameters(level.skip.downs) + n_parameters(level.skip.fuse) for level in net.decoder)
    assert n_parameters(net) - brought == 31_567_981


def test_count_of_every_part_of_the_skips() -> None:
    skips = [level.skip for level in paper().decoder]
    assert [n_parameters(skip.downs) for skip in skips] == [9_151_488, 1_625_088, 221_952, 0]
    assert [n_parameters(skip.fuse) for skip in skips] == [9_437_696, 1_769_728, 295_040, 0]
    assert [n_parameters(skip.gate) for skip in skips] == [395_011, 99_203, 25_027, 6_371]


def gate_calls(net: FullAttentionUNet) -> list[int]:
    """How often one forward calls the gate of each level, deep to shallow."""
    calls: Counter[int] = Counter()
    gates = [level.skip.gate for level in net.decoder]
    for index, gate in enumerate(gates):
        gate.register_forward_hook(lambda module, args, out, index=index: calls.update([index]))
    with torch.no_grad():
        net.eval()(torch.rand(1, 1, 16, 16))
    return [calls[index] for index in range(len(gates))]


@pytest.mark.parametrize(
    ("arguments", "calls"),
    [({}, [3, 2, 1, 1]), ({"gate_own_level": True}, [4, 3, 2, 1]), ({"variant": "advanced"}, [1, 1, 1, 1])],
)
def test_the_inputs_of_a_level_share_one_gate(arguments: dict[str, object], calls: list[int]) -> None:
    net = small(**arguments)
    assert sum(isinstance(module, SharedGate) for module in net.modules()) == 4
    assert gate_calls(net) == calls


def test_level_4_is_gated_by_the_bottleneck_and_the_others_by_the_decoder() -> None:
    net, signals, features = small().eval(), [], []
    for level in net.decoder:
        level.skip.gate.register_forward_hook(lambda module, args, out: signals.append(args[1]))
    for block in (net.encoder[4], *net.decoder[:3]):
        block.register_forward_hook(lambda module, args, out: features.append(out))
    net(torch.rand(1, 1, 16, 16))
    assert [signal.shape[1] for signal in signals] == [64, 64, 64, 32, 32, 16, 8]
    for signal, source in zip(signals, (0, 0, 0, 1, 1, 2, 3), strict=True):
        assert torch.equal(signal, features[source])


@pytest.mark.parametrize("variant", ["full", "advanced"])
def test_all_six_down_paths_get_gradient(variant: str) -> None:
    net = small(variant=variant).train()
    net(torch.rand(2, 1, 32, 32)).square().mean().backward()
    paths = [path for level in net.decoder for path in level.skip.downs]
    assert len(paths) == 6
    assert all(path[1].first.conv.weight.grad.abs().max() > 0 for path in paths)


def test_a_skip_is_brought_over_by_one_wide_pooling_and_joined_behind_the_own_one() -> None:
    net = paper()
    assert [[path[0].kernel_size for path in level.skip.downs] for level in net.decoder] == [[8, 4, 2], [4, 2], [2], []]
    fused = [level.skip.fuse for level in net.decoder[:3]]
    assert [(conv.in_channels, conv.out_channels) for conv in fused] == [(2048, 512), (768, 256), (256, 128)]
    skip = small().decoder[2].skip.eval()  # level 2 with one skip from level 1
    nn.init.zeros_(skip.fuse.weight)
    nn.init.zeros_(skip.fuse.bias)
    for channel in range(8):
        skip.fuse.weight.data[channel, channel, 1, 1] = 1.0  # reads the first 8 of its 16 channels
    own = torch.rand(1, 8, 4, 4)
    torch.testing.assert_close(skip([torch.rand(1, 4, 8, 8), own], torch.rand(1, 16, 2, 2)), own)  # and ungated


def gate_and_inputs(*, double_sigmoid: bool) -> tuple[SharedGate, torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    gate = SharedGate(2, 4, double_sigmoid=double_sigmoid).eval()
    return gate, torch.randn(1, 4, 8, 8), torch.randn(1, 8, 4, 4)  # g at half resolution


@pytest.mark.parametrize(("double_sigmoid", "factor"), [(False, 0.5), (True, 0.622459)])
def test_a_zero_psi_scales_the_skip_by_a_constant(double_sigmoid: bool, factor: float) -> None:
    gate, x, g = gate_and_inputs(double_sigmoid=double_sigmoid)
    nn.init.zeros_(gate.score[0].weight)
    nn.init.zeros_(gate.score[0].bias)
    torch.testing.assert_close(gate(x, g), factor * x)


def test_two_sigmoids_let_between_a_half_and_three_quarters_of_the_skip_pass() -> None:
    single, double = (gate_and_inputs(double_sigmoid=flag) for flag in (False, True))
    for gate, x, g in (single, double):
        nn.init.constant_(gate.score[0].weight, 30.0)
        nn.init.constant_(gate.score[0].bias, -20.0)
        assert gate.alpha(x, g).shape == (1, 1, 8, 8)
    once, twice = (gate.alpha(x, g) for gate, x, g in (single, double))
    assert once.min() < 0.01 and once.max() > 0.99
    assert 0.5 <= twice.min() < 0.51 and 0.73 < twice.max() <= 0.731059


def test_fusing_convolutions_keep_the_size_and_have_neither_norm_nor_relu() -> None:
    fused = [level.skip.fuse for level in paper().decoder[:3]]
    assert all(type(conv) is nn.Conv2d and conv.padding == (1, 1) and conv.kernel_size == (3, 3) for conv in fused)


@pytest.mark.parametrize("size", [256, 512])
@pytest.mark.parametrize("variant", ["full", "advanced"])
def test_crack_photos_keep_their_size(size: int, variant: str) -> None:
    net = paper(variant=variant)
    assert net(torch.empty(1, 1, size, size, device="meta")).shape == (1, 1, size, size)


def test_advanced_fuses_before_its_gate_and_full_gates_before_it_fuses() -> None:
    for variant, order in (("full", ["gate", "gate", "gate", "fuse"]), ("advanced", ["fuse", "gate"])):
        net, seen = small(variant=variant).eval(), []
        skip = net.decoder[0].skip
        skip.gate.register_forward_hook(lambda module, args, out, seen=seen: seen.append("gate"))
        skip.fuse.register_forward_hook(lambda module, args, out, seen=seen: seen.append("fuse"))
        net(torch.rand(1, 1, 16, 16))
        assert seen == order
