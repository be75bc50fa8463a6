"""What every network promises, one test per property over one table: a new network adds a row."""

import itertools
import json
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import pytest
import torch
from table import COUNTS, GOLDEN_FILE, TABLE, build, built, class_of, images, keys_of
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.instancenorm import _InstanceNorm

from seglab.errors import ConfigError, ShapeError
from seglab.nets.attention_unet import AttentionUNet
from seglab.nets.base import SegmentationNet
from seglab.nets.bottleneck_head_unet import BottleneckHeadUNet
from seglab.nets.bsunet import BSUNet, EncodingUNet
from seglab.nets.cascade import Cascade
from seglab.nets.dcunet import DCUNet
from seglab.nets.dense_unet import DenseUNet
from seglab.nets.e1d3 import E1D3UNet
from seglab.nets.full_attention_unet import FullAttentionUNet
from seglab.nets.implicit_unet import ImplicitUNet
from seglab.nets.inception_unet import InceptionUNet
from seglab.nets.monai import MONAI
from seglab.nets.multiresunet import MultiResUNet
from seglab.nets.orthogonal import OrthogonalFusion
from seglab.nets.r2unet import R2UNet
from seglab.nets.residual_unet import ResidualUNet
from seglab.nets.sdunet import SDUNet
from seglab.nets.smp import SMP
from seglab.nets.unet import UNet
from seglab.nets.unet3d import UNet3D
from seglab.nets.unetpp import UNetPlusPlus
from seglab.nets.vnet import VNet
from seglab.run.zoo.compatibility import compiled_logits, difference, onnx_logits, plain_logits, training_fault

GOLDEN_KEYS = json.loads(GOLDEN_FILE.read_text())
FIRST_ROWS = list({row[0]: name for name, row in reversed(TABLE.items())}.values())  # one for each class
TRACED_AT_ONCE = ("unet-2d", "vnet-2d-paper")  # the others take seconds each
every_net = pytest.mark.parametrize("name", TABLE)


def graded(fast: Sequence[str] = (), slow: Sequence[str] = ()) -> pytest.MarkDecorator:
    """Every row of the table, each in the lane that its time allows: a row in neither list is exhaustive."""
    marks = {name: pytest.mark.slow if name in slow else pytest.mark.exhaustive for name in TABLE if name not in fast}
    return pytest.mark.parametrize("name", [pytest.param(name, marks=marks.get(name, ())) for name in TABLE])


def biases_that_a_norm_removes(net: nn.Module) -> set[int]:
    """A bias in front of a batch or instance norm is taken off with the mean, so its gradient is zero."""
    removed = set()
    for module in net.modules():
        children = list(module.children()) if isinstance(module, nn.Sequential) else []
        for before, after in itertools.pairwise(children):
            if isinstance(after, _BatchNorm | _InstanceNorm) and getattr(before, "bias", None) is not None:
                removed.add(id(before.bias))
    return removed


@every_net
@pytest.mark.parametrize(("in_channels", "num_classes"), [(1, 2), (3, 1)])
def test_logits_keep_the_size_and_have_one_channel_per_class(name: str, in_channels: int, num_classes: int) -> None:
    num_classes = max(num_classes, class_of(TABLE[name][0]).min_classes)
    image = images(name, n=1, in_channels=in_channels)
    image = torch.cat([image, image], dim=-1) if in_channels == 1 else image  # not square
    net = built(name) if in_channels == 1 else build(name, in_channels, num_classes).eval()
    with torch.no_grad():
        logits = net(image)
    assert logits.shape == (1, num_classes, *image.shape[2:])
    assert logits.dtype == torch.float32 and logits.isfinite().all()
    assert num_classes == 1 or logits.min() < 0 or logits.max() > 1  # no sigmoid, no softmax


@every_net
def test_an_odd_size_is_refused_with_the_size_to_pad_to(name: str) -> None:
    net, image = built(name), images(name, n=1)
    odd = image[..., :-1]
    with pytest.raises(ShapeError) as caught:
        net(odd)
    assert caught.value.given == "x".join(map(str, odd.shape[2:]))
    assert f"pad to {'x'.join(map(str, image.shape[2:]))}" in caught.value.fix
    assert net.input_size_for(odd.shape[2:]) == image.shape[2:]


@every_net
def test_an_image_of_other_channels_or_rank_is_refused(name: str) -> None:
    net, image = built(name), images(name, n=1)
    for wrong in (torch.cat([image, image], dim=1), image[0]):
        with pytest.raises(ShapeError, match="with C=1"):
            net(wrong)


@every_net
def test_every_parameter_gets_a_gradient(name: str) -> None:
    net = build(name).train()
    removed = biases_that_a_norm_removes(net)
    outputs = net.training_outputs(images(name))
    sum((output * torch.randn_like(output)).mean() for output in outputs).backward()
    for key, parameter in net.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all(), key
        assert id(parameter) in removed or parameter.grad.abs().max() > 0, key


@pytest.mark.parametrize(("cls", "arguments", "trainable", "total"), COUNTS)
def test_parameters_are_the_published_ones(
    cls: str, arguments: dict[str, object], trainable: int, total: int | None
) -> None:
    with torch.device("meta"):
        net = class_of(cls)(**arguments)
    n_parameters = sum(parameter.numel() for parameter in net.parameters())
    n_statistics = sum(b.numel() for name, b in net.named_buffers() if name.endswith(("running_mean", "running_var")))
    assert n_parameters == trainable
    assert total is None or n_parameters + n_statistics == total


@every_net
def test_the_network_names_its_paper_and_how_near_it_is(name: str) -> None:
    cls = class_of(TABLE[name][0])
    assert cls.paper.startswith("https://")
    assert cls.faithfulness in ("faithful", "corroborated", "reconstruction", "reference")


@every_net
def test_every_head_has_the_size_of_the_image_and_the_last_is_the_output(name: str) -> None:
    net, image = built(name), images(name, n=1)
    with torch.no_grad():
        heads, logits = net.forward_heads(image), net(image)
    assert len(heads) == net.n_heads and all(head.shape == logits.shape for head in heads)
    assert torch.equal(heads[-1], logits)


@every_net
def test_state_dict_keys_are_the_golden_ones(name: str) -> None:
    assert GOLDEN_KEYS.get(name) == keys_of(name)  # a new row: python tests/nets/table.py


@every_net
def test_eval_is_deterministic_and_a_batch_equals_its_images_one_by_one(name: str) -> None:
    net, batch = built(name), images(name)
    with torch.no_grad():
        together, first, again = net(batch), net(batch[:1]), net(batch[:1])
        apart = torch.cat([first, net(batch[1:])])
    assert torch.equal(first, again)
    torch.testing.assert_close(together, apart, rtol=1e-4, atol=1e-5)


@graded(fast=FIRST_ROWS, slow=TABLE)
def test_weights_survive_a_file(name: str, tmp_path: Path) -> None:
    net, image = build(name), images(name)
    net.train()(image)  # moves the running statistics
    torch.save(net.state_dict(), tmp_path / "weights.pt")
    twin = build(name)
    for parameter in twin.parameters():
        nn.init.zeros_(parameter)
    twin.load_state_dict(torch.load(tmp_path / "weights.pt", weights_only=True))
    with torch.no_grad():
        assert torch.equal(net.eval()(image[:1]), twin.eval()(image[:1]))


@graded(fast=TRACED_AT_ONCE, slow=TABLE)
def test_is_one_graph_with_the_same_logits(name: str) -> None:
    net, image = built(name), images(name, n=1)
    torch._dynamo.reset()
    compiled = torch.compile(net, fullgraph=True, backend="eager")
    with torch.no_grad():
        torch.testing.assert_close(compiled(image), net(image))


@pytest.mark.timeout(1200)
@graded(slow=["unet-2d"])
def test_compiles_with_the_default_backend_to_the_same_logits(name: str) -> None:
    net, image = build(name), images(name, n=1)
    assert not difference(compiled_logits(net, image), plain_logits(net, image))


@pytest.mark.timeout(600)
@graded(slow=FIRST_ROWS)
def test_onnxruntime_gives_the_same_logits(name: str) -> None:
    net, image = build(name), images(name, n=1)
    assert not difference(onnx_logits(net, image), plain_logits(net, image))


@pytest.mark.slow
@every_net
@pytest.mark.parametrize(("bf16", "channels_last"), [(True, False), (False, True), (True, True)])
def test_a_step_in_bfloat16_or_channels_last_is_finite(name: str, bf16: bool, channels_last: bool) -> None:
    image = images(name)
    if image.ndim == 5:  # no level with fewer slices than a kernel, where torch 2.14 on the CPU reads unset memory
        image = torch.cat([image] * 5, dim=2)
    assert not training_fault(build(name), image, bf16=bf16, channels_last=channels_last)


@graded(fast=FIRST_ROWS, slow=TABLE)
def test_runs_in_bfloat16_and_channels_last(name: str) -> None:
    is_2d = TABLE[name][1]["spatial_dims"] == 2
    layout = torch.channels_last if is_2d else torch.channels_last_3d
    net = build(name).to(memory_format=layout).train()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        outputs = net.training_outputs(images(name).to(memory_format=layout))
    assert all(output.dtype == torch.bfloat16 and output.isfinite().all() for output in outputs)
    # torch 2.14 on the CPU reads unset memory in the bfloat16 weight gradient of a Conv3d wider than its input is deep.
    if is_2d:
        sum(output.float().square().mean() for output in outputs).backward()
        assert all(parameter.grad.isfinite().all() for parameter in net.parameters())


@pytest.mark.parametrize("name", [name for name in TABLE if name.endswith("2d") and "group" not in name])
def test_a_shift_by_the_total_stride_shifts_the_logits(name: str) -> None:
    net, stride, margin = build(name).eval(), 16, 160
    torch.manual_seed(2)
    image = torch.rand(1, 1, 352, 368)
    with torch.no_grad():
        left, right = net(image[..., :352]), net(image[..., 16:])
    inner = slice(margin, 352 - margin)
    left, right = left[..., inner, stride:], right[..., inner, :-stride]
    torch.testing.assert_close(left[..., inner], right[..., inner], rtol=1e-4, atol=1e-5)


ILL = [
    (UNet, {"spatial_dims": 4}, "spatial_dims=4"),
    (UNet, {"in_channels": 0}, "in_channels=0"),
    (UNet, {"num_classes": 0}, "num_classes=0"),
    (UNet, {"base_channels": 0}, "base_channels=0"),
    (UNet, {"n_poolings": 0}, "set model.n_poolings=1"),
    (UNet, {"padding": "sane"}, "set model.padding=same"),
    (UNet, {"norm": "bach"}, "allowed: null, batch, instance, group"),
    (UNet, {"dropout": 1.0}, "0.0 or more and less than 1.0"),
    (AttentionUNet, {"form": "lee"}, "set model.form=lee2d"),
    (AttentionUNet, {"gates": "multi"}, "allowed: single, none"),
    (AttentionUNet, {"base_channels": 1}, "set model.base_channels=2"),
    (DCUNet, {"base_channels": 3}, "set model.base_channels=4"),
    (DCUNet, {"width_factor": 0.0}, "width_factor=0.0"),
    (MultiResUNet, {"base_channels": 3}, "set model.base_channels=4"),
    (SDUNet, {"base_channels": 0}, "set model.base_channels=16"),
    (SDUNet, {"base_channels": 24}, "set model.base_channels=32"),
    (SDUNet, {"norm": "grup"}, "set model.norm=group"),
    (FullAttentionUNet, {"base_channels": 1}, "set model.base_channels=2"),
    (FullAttentionUNet, {"variant": "ful"}, "set model.variant=full"),
    (FullAttentionUNet, {"variant": "advanced", "gate_own_level": True}, "set model.gate_own_level=false"),
    (BSUNet, {"base_channels": 0}, "set model.base_channels=1"),
    (EncodingUNet, {"base_channels": 0}, "EncodingUNet cannot be built"),
    (ResidualUNet, {"base_channels": 0}, "set model.base_channels=1"),
    (ResidualUNet, {"n_blocks": 0}, "set model.n_blocks=1"),
    (BottleneckHeadUNet, {"base_channels": 0}, "set model.base_channels=1"),
    (BottleneckHeadUNet, {"norm": "layer"}, "allowed: null, batch, instance, group"),
    (BottleneckHeadUNet, {"head": "pixel"}, "set model.head=pixelwise"),
    (BottleneckHeadUNet, {"head_channels": 0}, "set model.head_channels=1"),
    (BottleneckHeadUNet, {"head": "dense"}, "set model.image_size=[256,256]"),
    (BottleneckHeadUNet, {"head": "dense", "image_size": [64, 72]}, "2 multiples of 16"),
    (BottleneckHeadUNet, {"head": "dense", "image_size": [64, 64], "spatial_dims": 3}, "=[256,256,256]"),
    (ImplicitUNet, {"base_channels": 0}, "set model.base_channels=1"),
    (ImplicitUNet, {"n_poolings": 0}, "set model.n_poolings=1"),
    (SMP, {"spatial_dims": 3}, "SMP takes 2 dimensions"),
    (SMP, {"arch": "unet"}, "set model.arch=Unet"),
    (SMP, {"encoder": "resnet19"}, "set model.encoder=resnet18"),
    (SMP, {"encoder": "tu-resnt18"}, "set model.encoder=tu-resnet18"),
    (SMP, {"weights": "imagnet"}, "allowed: imagenet, null"),
    (SMP, {"encoder": "tu-resnet18", "weights": "imagenet"}, "a1_in1k"),
    (SMP, {"arch": "DPT"}, "DPT cannot be built on the encoder resnet34"),
    (SMP, {"arch": "DeepLabV3", "encoder": "vgg11"}, "dilated mode"),
    (E1D3UNet, {"num_classes": 1}, "2 or more classes"),
    (E1D3UNet, {"base_channels": 1}, "set model.base_channels=2"),
    (VNet, {"base_channels": 0}, "set model.base_channels=1"),
    (VNet, {"layout": "prototext"}, "set model.layout=prototxt"),
    (VNet, {"norm": "layer"}, "allowed: null, batch, instance, group"),
    (VNet, {"dropout": 1.0}, "0.0 or more and less than 1.0"),
    (UNet3D, {"base_channels": 0}, "set model.base_channels=1"),
    (UNet3D, {"padding": "valdi"}, "set model.padding=valid"),
    (UNet3D, {"norm": "bach"}, "set model.norm=batch"),
    (R2UNet, {"base_channels": 0}, "set model.base_channels=1"),
    (R2UNet, {"base_channels": 1, "attention": True}, "set model.base_channels=2"),
    (R2UNet, {"n_steps": -1}, "set model.n_steps=0"),
    (R2UNet, {"norm_statistics": "per step"}, "set model.norm_statistics=per_step"),
    (UNetPlusPlus, {"base_channels": 0}, "set model.base_channels=1"),
    (UNetPlusPlus, {"up": "bilinear"}, "set model.up=linear"),
    (UNetPlusPlus, {"norm": "bach"}, "set model.norm=batch"),
    (UNetPlusPlus, {"depth": 0, "deep_supervision": True}, "set model.depth=1"),
    (UNetPlusPlus, {"depth": 5}, "1 or more and less than 5"),
    (UNetPlusPlus, {"depth": 2}, "train with model.deep_supervision=true"),
    (InceptionUNet, {"base_channels": 0}, "set model.base_channels=1"),
    (DenseUNet, {"base_channels": 0}, "set model.base_channels=1"),
    (DenseUNet, {"growth": 0}, "set model.growth=1"),
    (DenseUNet, {"n_layers": 0}, "set model.n_layers=1"),
    (Cascade, {"first": UNet, "second": UNet}, "choose data with at least 3"),
    (Cascade, {"num_classes": 3, "first": partial(UNet, norm="bach"), "second": UNet}, "set model.first.norm=batch"),
    (Cascade, {"num_classes": 3, "first": UNet, "second": partial(UNet, padding="valid")}, "model.second.padding=same"),
    (OrthogonalFusion, {"plane": UNet, "spatial_dims": 2}, "set data.dims=3"),
    (OrthogonalFusion, {"plane": UNet, "fusion": "men"}, "set model.fusion=mean"),
    (OrthogonalFusion, {"plane": partial(UNet, n_poolings=0)}, "set model.plane.n_poolings=1"),
    (OrthogonalFusion, {"plane": partial(UNet, padding="valid")}, "set model.plane.padding=same"),
    (MONAI, {"arch": "SegResnet"}, "set model.arch=SegResNet"),
    (MONAI, {"base_channels": 12}, "set model.base_channels=16"),
    (MONAI, {"arch": "SwinUNETR", "base_channels": 32}, "multiples of 12, from 12 up"),
    (MONAI, {"arch": "DynUNet", "base_channels": 0}, "set model.base_channels=1"),
]


@pytest.mark.parametrize(("cls", "arguments", "text"), ILL, ids=[f"{c.__name__}-{a}" for c, a, _ in ILL])
def test_an_ill_argument_is_refused_with_what_to_type(
    cls: type[SegmentationNet], arguments: dict[str, object], text: str
) -> None:
    with torch.device("meta"), pytest.raises(ConfigError) as caught:
        cls(**({"in_channels": 1, "num_classes": 2} | arguments))
    assert text in str(caught.value)
    assert all([caught.value.what, caught.value.given, caught.value.allowed, caught.value.fix])


@pytest.mark.parametrize("cls", sorted({row[0] for row in TABLE.values()}))
def test_the_first_line_of_the_docstring_says_what_the_network_is(cls: str) -> None:
    doc = class_of(cls).__doc__
    assert ": " in (doc or "").splitlines()[0] and "returns logits" in (doc or "").splitlines()[0]
