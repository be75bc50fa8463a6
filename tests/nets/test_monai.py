"""MONAI's networks behind one class: counts, sizes, and what is told when a package is not there."""

import importlib.util
import sys

import pytest
import torch
from torch import nn

from seglab.errors import ConfigError, ShapeError
from seglab.nets.monai import MONAI

CASES = [  # architecture, dimensions, smallest size, width
    ("DynUNet", 2, (32, 64), 2),
    ("DynUNet", 3, (32, 32, 64), 2),
    ("SegResNet", 2, (8, 8), 8),
    ("SegResNet", 3, (8, 8, 8), 8),
    ("SwinUNETR", 2, (32, 64), 12),
    ("SwinUNETR", 3, (32, 32, 64), 12),
]


def needs_einops(arch: str) -> None:
    if arch == "SwinUNETR" and importlib.util.find_spec("einops") is None:
        pytest.skip("einops is not installed")


@pytest.mark.parametrize(("arch", "dims", "smallest", "base_channels"), CASES)
def test_every_architecture_takes_its_smallest_size(
    arch: str, dims: int, smallest: tuple[int, ...], base_channels: int
) -> None:
    needs_einops(arch)
    net = MONAI(in_channels=2, num_classes=3, spatial_dims=dims, arch=arch, base_channels=base_channels).train()
    assert net.input_size_for([1] * dims) == smallest and net.size_multiple == smallest[0]
    with torch.no_grad():
        assert net(torch.rand(1, 2, *smallest)).shape == (1, 3, *smallest)
    with pytest.raises(ShapeError, match=f"pad to {'x'.join(map(str, smallest))}"):
        net(torch.rand(1, 2, *(length - 1 for length in smallest)))


@pytest.mark.parametrize("arch", ["DynUNet", "SwinUNETR"])
def test_a_single_pixel_on_the_deepest_level_is_refused_before_the_instance_norm_sees_it(arch: str) -> None:
    needs_einops(arch)
    net = MONAI(in_channels=1, num_classes=2, spatial_dims=2, arch=arch, base_channels=12)
    with pytest.raises(ShapeError, match="pad to 32x64") as caught:
        net(torch.rand(1, 1, 32, 32))
    assert "at least 64 along one axis" in caught.value.allowed
    with pytest.raises(ValueError, match="more than 1 spatial element"):
        net.net(torch.rand(1, 1, 32, 32))


@pytest.mark.parametrize(
    ("arch", "in_channels", "num_classes", "base_channels", "n_parameters"),
    [
        ("DynUNet", 1, 2, 32, 31_189_410),
        ("SegResNet", 4, 3, 32, 18_798_627),
        ("SwinUNETR", 4, 3, 48, 62_191_941),
    ],
)
def test_parameters_of_the_papers_widths(
    arch: str, in_channels: int, num_classes: int, base_channels: int, n_parameters: int
) -> None:
    needs_einops(arch)
    sizes = {"in_channels": in_channels, "num_classes": num_classes, "spatial_dims": 3}
    with torch.device("cpu" if arch == "SwinUNETR" else "meta"):  # MONAI reads numbers from tensors on its way
        net = MONAI(**sizes, arch=arch, base_channels=base_channels)
    assert sum(parameter.numel() for parameter in net.parameters()) == n_parameters


@pytest.mark.parametrize(("dims", "widest"), [(2, 512), (3, 320)])
def test_dynunet_has_the_widths_of_nnunet(dims: int, widest: int) -> None:
    with torch.device("meta"):
        net = MONAI(in_channels=1, num_classes=2, spatial_dims=dims, arch="DynUNet")
    assert net.net.filters == [32, 64, 128, 256, widest, widest]


def test_every_parameter_of_swinunetr_gets_a_gradient() -> None:
    needs_einops("SwinUNETR")
    torch.manual_seed(0)
    net = MONAI(in_channels=1, num_classes=2, spatial_dims=2, arch="SwinUNETR", base_channels=12).train()
    outputs = net.training_outputs(torch.rand(2, 1, 64, 64))
    assert len(outputs) == 1 and isinstance(net.net, nn.Module)
    outputs[0].square().mean().backward()
    for key, parameter in net.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().max() > 0, key


@pytest.mark.parametrize(
    ("arch", "package"), [("SegResNet", "monai"), ("DynUNet", "monai"), ("SwinUNETR", "einops"), ("SwinUNETR", "monai")]
)
def test_a_missing_package_is_told_with_what_to_install(
    arch: str, package: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, package, None)  # as if it were not installed
    with pytest.raises(ConfigError, match=f"arch={arch} without .*{package}") as caught:
        MONAI(in_channels=1, num_classes=2, arch=arch, base_channels=24)
    assert "pip install" in caught.value.fix and package in caught.value.fix
