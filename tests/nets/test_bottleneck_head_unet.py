"""U-Net with a supervised bottleneck: what the head adds, what its loss reaches, and inference without it."""

from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from seglab.errors import ShapeError
from seglab.nets.bottleneck_head_unet import BottleneckHeadUNet
from seglab.nets.unet import UNet

SMALL = {"in_channels": 1, "num_classes": 2, "base_channels": 4}
every_head = pytest.mark.parametrize("head", ["pixelwise", "dense"])


def small(**arguments: Any) -> BottleneckHeadUNet:
    torch.manual_seed(0)
    return BottleneckHeadUNet(**SMALL | {"head_channels": 8, "image_size": [32, 48]} | arguments)


def image() -> torch.Tensor:
    torch.manual_seed(1)
    return torch.rand(2, 1, 32, 48)


def test_the_head_adds_262_657_parameters_to_unet() -> None:
    with torch.device("meta"):
        net, unet = BottleneckHeadUNet(in_channels=1, num_classes=1), UNet(in_channels=1, num_classes=1)
    n_head, n_unet = (sum(p.numel() for p in module.parameters()) for module in (net.bottleneck_head, unet))
    assert n_head == 262_657
    assert sum(p.numel() for p in net.parameters()) == n_unet + n_head == 31_293_250


@every_head
@pytest.mark.parametrize("norm", [None, "batch"])
def test_without_the_auxiliary_term_it_is_unet_from_the_first_weight_to_the_gradients(
    head: str, norm: str | None
) -> None:
    torch.manual_seed(0)
    net, unet = small(head=head, norm=norm).train(), None
    torch.manual_seed(0)
    unet = UNet(**SMALL, norm=norm).train()
    mask = torch.zeros(2, 2, 32, 48)
    logits, head_logits = net.forward_auxiliary(image())
    (F.l1_loss(logits.sigmoid(), mask) + 0.0 * head_logits.mean()).backward()  # lambda = 0
    expected = unet(image())
    F.l1_loss(expected.sigmoid(), mask).backward()
    assert torch.equal(logits, expected)
    parameters = dict(net.named_parameters())
    for name, parameter in unet.named_parameters():
        assert torch.equal(parameters[name], parameter) and torch.equal(parameters[name].grad, parameter.grad), name
    assert all(name.startswith("bottleneck_head.") for name in parameters.keys() - dict(unet.named_parameters()).keys())


@every_head
def test_the_auxiliary_term_alone_reaches_every_encoder_convolution_and_no_decoder_one(head: str) -> None:
    net = small(head=head).train()
    logits, head_logits = net.forward_auxiliary(image())
    labels = torch.randint(2, (2, 2, 3))
    (0.0 * logits.mean() + F.cross_entropy(head_logits, labels)).backward()
    for part in (net.encoder, net.bottleneck_head):
        assert all(parameter.grad.abs().max() > 0 for parameter in part.parameters())
    for part in (net.decoder, net.head):
        assert all(parameter.grad.abs().max() == 0 for parameter in part.parameters())


@every_head
def test_logits_are_the_same_with_the_head_and_with_the_head_removed(head: str) -> None:
    net = small(head=head).eval()
    with torch.no_grad():
        before, beside = net(image()), net.forward_auxiliary(image())[0]
        del net.bottleneck_head
        assert torch.equal(net(image()), before) and torch.equal(beside, before)


@every_head
@pytest.mark.parametrize("spatial_dims", [2, 3])
def test_head_logits_have_a_sixteenth_of_the_size(head: str, spatial_dims: int) -> None:
    size = [48, 32, 64][:spatial_dims]
    with torch.device("meta"):
        net = small(head=head, num_classes=3, spatial_dims=spatial_dims, image_size=size)
        logits, head_logits = net.forward_auxiliary(torch.empty(2, 1, *size))
    assert logits.shape == (2, 3, *size)
    assert head_logits.shape == (2, 3, *(length // 16 for length in size))


def test_a_pixelwise_head_is_two_linear_layers_at_each_pixel() -> None:
    head = small().bottleneck_head
    feature = torch.randn(2, 64, 2, 3)
    linear = [nn.Linear(64, 8), nn.Linear(8, 2)]
    for layer, conv in zip(linear, (head.first, head.second), strict=True):
        layer.load_state_dict({"weight": conv.weight.flatten(1), "bias": conv.bias})
    expected = linear[1](linear[0](feature.movedim(1, -1)).relu()).movedim(-1, 1)
    torch.testing.assert_close(head(feature), expected)


@pytest.mark.parametrize(("head", "n_seen"), [("pixelwise", 1), ("dense", 6)])
def test_a_pixelwise_head_sees_one_bottleneck_pixel_and_a_dense_head_all(head: str, n_seen: int) -> None:
    net, feature = small(head=head), torch.randn(1, 64, 2, 3, requires_grad=True)
    net.bottleneck_head(feature)[0, :, 1, 1].sum().backward()
    assert (feature.grad[0].abs().amax(dim=0) > 0).sum() == n_seen


@every_head
@pytest.mark.parametrize("use_relu", [True, False])
def test_without_its_relu_the_head_is_an_affine_map(head: str, use_relu: bool) -> None:
    layers = small(head=head, use_relu=use_relu).double().bottleneck_head
    a, b = torch.randn(2, 1, 64, 2, 3, dtype=torch.float64)
    bend = layers(a + b) - layers(a) - layers(b) + layers(torch.zeros_like(a))
    assert torch.allclose(bend, torch.zeros_like(bend)) is not use_relu


def test_a_dense_head_refuses_another_size_in_training_and_leaves_inference_alone() -> None:
    net, larger = small(head="dense").eval(), torch.rand(1, 1, 64, 48)
    with torch.no_grad():
        assert net(larger).shape == (1, 2, 64, 48)
        with pytest.raises(ShapeError) as caught:
            net.forward_auxiliary(larger)
    assert caught.value.given == "64x48" and "32x48" in caught.value.allowed
    assert caught.value.fix == "set model.image_size=[64,48] or model.head=pixelwise"


def test_both_outputs_are_for_training_and_the_main_one_is_last() -> None:
    net = small().eval()
    with torch.no_grad():
        logits, head_logits = net.forward_auxiliary(image())
        outputs = net.training_outputs(image())
        assert torch.equal(outputs[0], head_logits) and torch.equal(outputs[1], logits)
        assert len(net.forward_heads(image())) == net.n_heads == 1  # the head of another size is no head of that kind
