"""DC-UNet: the paper's network to the last parameter, part by part."""

import pytest
import torch
from torch import nn

from seglab.nets.dcunet import DCBlock, DCUNet
from seglab.nets.multires_blocks import Chain


def n_parameters(net: nn.Module) -> int:
    return sum(parameter.numel() for parameter in net.parameters())


def keras_total(net: nn.Module) -> int:
    """Trainable parameters and running statistics, as Keras counts; torch's step counters are not in it."""
    return n_parameters(net) + sum(b.numel() for name, b in net.named_buffers() if not name.endswith("batches_tracked"))


def paper(in_channels: int = 1, spatial_dims: int = 2) -> DCUNet:
    with torch.device("meta"):
        return DCUNet(in_channels=in_channels, num_classes=1, spatial_dims=spatial_dims)


@pytest.mark.parametrize(
    ("in_channels", "trainable", "total"), [(1, 10_040_236, 10_069_640), (3, 10_040_524, 10_069_928)]
)
def test_counts_are_the_published_ones(in_channels: int, trainable: int, total: int) -> None:
    net = paper(in_channels)
    assert n_parameters(net) == trainable and keras_total(net) == total
    assert trainable != 10_811_071  # the later port, another network


def test_count_in_3d_follows_the_same_rules() -> None:
    assert keras_total(paper(in_channels=4, spatial_dims=3)) == 28_600_952


def test_count_of_every_part() -> None:
    net = paper()
    assert [n_parameters(block) for block in net.encoder] == [10_956, 60_546, 248_044, 1_000_248, 4_004_408]
    assert n_parameters(paper(in_channels=3).encoder[0]) == 11_244
    assert [n_parameters(path) for path in net.res_paths] == [47_552, 149_888, 436_224, 1_091_584]
    assert [n_parameters(up) for up in net.ups] == [873_728, 218_240, 54_336, 13_472]
    assert [n_parameters(block) for block in net.decoder] == [1_383_648, 343_174, 84_108, 20_028]
    assert n_parameters(net.final) == 52


def test_widths_are_truncated_and_res_paths_get_shorter() -> None:
    net = paper()
    assert [block.norm.num_features for block in net.encoder] == [51, 105, 212, 426, 853]
    assert [block.norm.num_features for block in net.decoder] == [426, 212, 105, 51]
    assert [conv.conv.out_channels for conv in net.encoder[0].left.convs] == [8, 17, 26]
    assert [len(path) for path in net.res_paths] == [4, 3, 2, 1]
    assert [path[0].conv.conv.out_channels for path in net.res_paths] == [32, 64, 128, 256]


def test_norms_are_those_of_keras_and_weights_glorot() -> None:
    torch.manual_seed(0)
    net = DCUNet(in_channels=1, num_classes=1)
    norms = [module for module in net.modules() if isinstance(module, nn.BatchNorm2d)]
    assert {(norm.eps, norm.momentum) for norm in norms} == {(1e-3, 0.01)}
    weight = net.encoder[4].left.convs[0].conv.weight
    limit = (6 / (9 * (weight.shape[0] + weight.shape[1]))) ** 0.5
    assert weight.abs().max().item() == pytest.approx(limit, rel=1e-3)
    assert net.ups[0].bias.abs().max() == 0 and net.final.shift.abs().max() == 0


def test_the_two_chains_of_a_block_are_different_modules() -> None:
    torch.manual_seed(0)
    block, x = DCBlock(2, 2, [2, 3, 4]).eval(), torch.randn(1, 2, 8, 8)
    assert not {id(p) for p in block.left.parameters()} & {id(p) for p in block.right.parameters()}
    with torch.no_grad():
        before = block(x)
        block.right.convs[0].conv.weight.add_(1.0)
        assert not torch.allclose(block(x), before)


def test_equal_chains_double_the_sum() -> None:
    torch.manual_seed(0)
    block, x = DCBlock(2, 2, [2, 3, 4]).eval(), torch.randn(1, 2, 8, 8)
    block.right.load_state_dict(block.left.state_dict())
    with torch.no_grad():
        torch.testing.assert_close(block(x), block.norm(torch.relu(2 * block.left(x))))


def test_a_block_has_no_shortcut() -> None:
    convs = [module for block in paper().encoder for module in block.modules() if isinstance(module, nn.Conv2d)]
    assert len(convs) == 5 * 6 and all(conv.kernel_size == (3, 3) for conv in convs)


def test_the_parts_of_a_chain_see_3_5_and_7_pixels() -> None:
    chain = Chain(2, 1, [1, 1, 1]).eval()
    for conv in chain.convs:
        nn.init.ones_(conv.conv.weight)
    for part, field in enumerate((3, 5, 7)):
        image = torch.ones(1, 1, 15, 15, requires_grad=True)
        chain(image)[0, part, 7, 7].backward()
        rows, columns = image.grad[0, 0].nonzero(as_tuple=True)
        assert (rows.min(), rows.max()) == (7 - field // 2, 7 + field // 2)
        assert (columns.min(), columns.max()) == (7 - field // 2, 7 + field // 2)


def test_the_norm_comes_after_the_relu_so_a_block_can_be_negative() -> None:
    torch.manual_seed(0)
    assert DCBlock(2, 1, [2, 3, 4]).train()(torch.rand(2, 1, 8, 8)).min() < 0


def test_the_pool_takes_the_block_before_its_res_path() -> None:
    torch.manual_seed(0)
    net = DCUNet(in_channels=1, num_classes=1, base_channels=4).eval()
    outputs, inputs = [], []
    net.encoder[0].register_forward_hook(lambda module, args, out: outputs.append(out))
    net.encoder[1].register_forward_hook(lambda module, args, out: inputs.append(args[0]))
    net(torch.rand(1, 1, 16, 16))
    assert torch.equal(net.pool(outputs[0]), inputs[0])


def test_the_sigmoid_of_the_logits_lies_between_zero_and_one() -> None:
    torch.manual_seed(0)
    logits = DCUNet(in_channels=1, num_classes=1, base_channels=4).train()(torch.rand(2, 1, 32, 48))
    probs = logits.sigmoid()
    assert probs.shape == (2, 1, 32, 48) and probs.min() > 0 and probs.max() < 1
    torch.testing.assert_close(logits.mean(), torch.tensor(0.0), atol=1e-4, rtol=0)  # a norm without shift yet
