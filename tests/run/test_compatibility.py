"""What works with a network is measured, and what was measured ends up in a table."""

from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import ClassVar

import pytest
import torch
from run_jobs import composed
from torch import Tensor, nn

from seglab.errors import ConfigError
from seglab.nets.base import SegmentationNet
from seglab.run.catalogue import names
from seglab.run.info import info
from seglab.run.zoo.compatibility import TITLES, example, fault, measure, plain_logits, varied_net, varies
from seglab.run.zoo.networks import class_of, narrow_net, node_of


class OneByOne(SegmentationNet):
    """The smallest network: one convolution of one pixel."""

    def __init__(self) -> None:
        super().__init__(in_channels=1, num_classes=2, spatial_dims=2)
        self.conv = nn.Conv2d(1, 2, kernel_size=1)

    def forward(self, image: Tensor) -> Tensor:
        self.check_input(image)
        return self.conv(image)


class Branching(OneByOne):
    """Its way through depends on the values of the image: two graphs."""

    def forward(self, image: Tensor) -> Tensor:
        return super().forward(image) if image.sum() > 0 else -super().forward(image)


class Rooted(OneByOne):
    """A square root of zero, whose gradient is infinite."""

    def forward(self, image: Tensor) -> Tensor:
        logits = super().forward(image)
        return logits + (logits * 0).sqrt()


class Dead(OneByOne):
    """Gives zeros only, as a narrow network does whose units are all off."""

    def forward(self, image: Tensor) -> Tensor:
        return super().forward(image) * 0


class Limited(OneByOne):
    """Says what it cannot do."""

    unsupported: ClassVar[Mapping[str, str]] = {"compile": "its lists change their length"}


@pytest.mark.parametrize("name", names("model"))
def test_every_reason_stands_under_a_known_name(name: str) -> None:
    assert set(class_of(node_of(name)).unsupported) <= set(TITLES)


def test_a_fault_says_what_went_wrong() -> None:
    image = torch.rand(2, 1, 8, 8)
    assert fault("compile", Branching(), image).startswith("Unsupported: Data-dependent branching")
    assert fault("bf16", Rooted(), image) == "the gradient of conv.weight is not finite"
    assert fault("channels_last", Rooted(), image) == "the gradient of conv.weight is not finite"
    assert fault("onnx", OneByOne(), image) == fault("bf16", OneByOne(), image) == ""
    assert fault("channels_last", OneByOne(), image) == ""


def test_zeros_are_not_compared_with_zeros() -> None:
    assert fault("channels_last", Dead(), torch.rand(2, 1, 8, 8)) == "the logits hardly vary, so nothing is compared"


@pytest.mark.parametrize(("name", "dims"), [("bsunet", 3), ("encoding_unet", 3)])
def test_networks_are_drawn_until_their_logits_vary(name: str, dims: int) -> None:
    dead, net = narrow_net(name, dims), varied_net(name, dims)
    assert dead is not None and not varies(plain_logits(dead, example(dead)))
    assert net is not None and varies(plain_logits(net, example(net)))


def test_what_the_network_says_itself_is_not_measured() -> None:
    cells = measure(Limited())
    assert cells["compile"] == "no: its lists change their length" and cells["onnx"] == "yes"


@pytest.mark.parametrize("name", ["unet", "vnet", "dcunet"])
def test_no_level_of_the_example_has_fewer_slices_than_a_kernel(name: str) -> None:
    net, is_thin = narrow_net(name, 3), []
    assert net is not None
    for module in net.modules():
        if isinstance(module, nn.Conv3d):
            module.register_forward_pre_hook(lambda conv, x: is_thin.append(x[0].shape[2] < conv.kernel_size[0]))
    with torch.no_grad():
        net.train()(example(net))
    assert is_thin and not any(is_thin)


def test_an_unknown_network_is_refused_and_the_file_left_as_it_was(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="only=\\[unett\\]"):
        info(composed("info", ["what=compatibility", f"output={tmp_path}", "only=[unett]"]))
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_info_measures_what_it_is_asked_and_keeps_the_other_rows(tmp_path: Path) -> None:
    file = tmp_path / "compatibility.md"
    old = ["| smp | 2-D | kept | yes | yes | yes |", "| unet | 2-D | measured again | yes | yes | yes |"]
    file.write_text("\n".join(["# What works where", *old, "text"]))
    info(composed("info", ["what=compatibility", f"output={tmp_path}", "only=[unet]"]))
    rows = [line for line in file.read_text().splitlines() if line.startswith("| ")][2:]
    assert rows == [old[0], "| unet | 2-D | yes | yes | yes | yes |", "| unet | 3-D | yes | yes | yes | yes |"]
    assert f"torch {version('torch')}" in file.read_text()
