"""UNet++: the authors' count and the widely used one, the triangle of nodes, and pruning."""

import pytest
import torch
from torch import Tensor, nn

from seglab.nets.unet import UNet
from seglab.nets.unetpp import Node, UNetPlusPlus


def n_parameters(net: nn.Module) -> int:
    return sum(parameter.numel() for parameter in net.parameters())


@pytest.mark.parametrize(("deep_supervision", "count"), [(False, 9_163_329), (True, 9_163_428)])
def test_count_of_the_widely_used_form(deep_supervision: bool, count: int) -> None:
    with torch.device("meta"):
        net = UNetPlusPlus(in_channels=3, num_classes=1, deep_supervision=deep_supervision)
    assert n_parameters(net) == count


def test_count_without_norm_and_with_up_convolutions_is_the_authors() -> None:
    with torch.device("meta"):
        net = UNetPlusPlus(in_channels=1, num_classes=1, norm=None, up="transposed")
    assert n_parameters(net) == 9_041_601


def small(**arguments: object) -> UNetPlusPlus:
    torch.manual_seed(0)
    return UNetPlusPlus(in_channels=1, num_classes=2, base_channels=4, **arguments).eval()


def image() -> Tensor:
    torch.manual_seed(1)
    return torch.rand(1, 1, 32, 48)


def test_a_node_joins_its_row_and_the_node_below() -> None:
    with torch.device("meta"):
        net = UNetPlusPlus(in_channels=1, num_classes=1)
        authors = UNetPlusPlus(in_channels=1, num_classes=1, up="transposed")
    inputs = {name: node.conv.first.conv.in_channels for name, node in net.nodes.items()}
    assert inputs == {
        **{"0_1": 32 + 64, "0_2": 2 * 32 + 64, "0_3": 3 * 32 + 64, "0_4": 4 * 32 + 64},
        **{"1_1": 64 + 128, "1_2": 2 * 64 + 128, "1_3": 3 * 64 + 128},
        **{"2_1": 128 + 256, "2_2": 2 * 128 + 256, "3_1": 256 + 512},
    }
    assert authors.nodes["0_4"].conv.first.conv.in_channels == 5 * 32
    assert authors.nodes["3_1"].up.weight.shape == (512, 256, 2, 2)


def test_a_node_sees_exactly_its_row_and_the_node_below() -> None:
    net, seen, made = small(), {}, {}
    for level, block in enumerate(net.encoder):
        block.register_forward_hook(lambda module, args, out, key=(level, 0): made.update({key: out}))
    for name, node in net.nodes.items():
        key = tuple(map(int, name.split("_")))
        node.register_forward_hook(lambda module, args, out, key=key: made.update({key: out}))
        node.conv.register_forward_hook(lambda module, args, out, key=key: seen.update({key: args[0]}))
    net(image())
    assert sorted(seen) == [(i, j) for i in range(4) for j in range(1, 5 - i)]
    for (i, j), joined in seen.items():
        below = nn.functional.interpolate(made[i + 1, j - 1], scale_factor=2, mode="bilinear")
        torch.testing.assert_close(joined, torch.cat([*(made[i, k] for k in range(j)), below], dim=1))


def test_without_the_nested_nodes_there_is_the_encoder_of_a_unet() -> None:
    net, made = small(), []
    unet = UNet(in_channels=1, num_classes=2, base_channels=4, norm="batch").eval()
    unet.encoder.load_state_dict(net.encoder.state_dict())
    for block in net.encoder:
        block.register_forward_hook(lambda module, args, out: made.append(out))
    x = image()
    with torch.no_grad():
        net(x)
        for level, (block, feature) in enumerate(zip(unet.encoder, made, strict=True)):
            x = block(unet.pool(x) if level else x)
            torch.testing.assert_close(feature, x)


@pytest.mark.parametrize("depth", [1, 2, 3, 4])
@pytest.mark.parametrize("up", ["linear", "transposed"])
def test_pruning_leaves_the_heads_that_remain_as_they_are(depth: int, up: str) -> None:
    net = small(deep_supervision=True, up=up)
    with torch.no_grad():
        heads = net.forward_heads(image())
        net.depth = depth
        pruned, logits = net.forward_heads(image()), net(image())
    assert net.n_heads == len(pruned) == depth
    assert all(torch.equal(before, after) for before, after in zip(heads, pruned, strict=False))
    assert torch.equal(logits, heads[depth - 1])
    assert not torch.allclose(heads[0], heads[3])


@pytest.mark.parametrize("depth", [1, 2, 3, 4])
def test_a_pruned_network_computes_no_node_below_its_depth(depth: int) -> None:
    net, ran = small(deep_supervision=True, depth=depth), set()
    for level, block in enumerate(net.encoder):
        block.register_forward_hook(lambda module, args, out, key=(level, 0): ran.add(key))
    for name, node in net.nodes.items():
        key = tuple(map(int, name.split("_")))
        node.register_forward_hook(lambda module, args, out, key=key: ran.add(key))
    net(image())
    assert ran == {(i, j) for i in range(5) for j in range(5) if i + j <= depth}


def test_training_runs_all_heads_at_any_depth() -> None:
    net = small(deep_supervision=True, depth=1).train()
    assert net.n_heads == len(net.forward_heads(image())) == 4
    assert net.eval().n_heads == 1


def test_a_head_touches_only_the_nodes_of_its_depth() -> None:
    net = small(deep_supervision=True).train()
    net.forward_heads(torch.rand(2, 1, 32, 32))[1].square().mean().backward()  # head 2
    touched = {name for name, node in net.nodes.items() if node.conv.first.conv.weight.grad is not None}
    assert touched == {"0_1", "1_1", "0_2"}
    assert [block.first.conv.weight.grad is not None for block in net.encoder] == [True, True, True, False, False]
    assert [head.weight.grad is not None for head in net.heads] == [False, True, False, False]


def test_the_same_weights_serve_every_depth() -> None:
    with torch.device("meta"):
        keys = [list(small(deep_supervision=True, depth=depth).state_dict()) for depth in (1, 4)]
    assert keys[0] == keys[1]


def test_one_node_is_two_convolutions_of_what_it_joins() -> None:
    node = Node(3, 2, 2, up="linear", norm="batch").eval()
    below, row = torch.rand(1, 4, 2, 2, 2), [torch.rand(1, 2, 4, 4, 4) for _ in range(2)]
    up = nn.functional.interpolate(below, scale_factor=2, mode="trilinear")
    with torch.no_grad():
        torch.testing.assert_close(node(below, row), node.conv(torch.cat([*row, up], dim=1)))
