"""Backends: the fast way is left where its labels differ; sizes that a network takes; ONNX files of any size."""

from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from torch import Tensor

from seglab.errors import ConfigError
from seglab.inference.backend import MAX_CHECKS, Checked, Onnxruntime, in_precision
from seglab.inference.backend_onnx import SizeRule, traced, write_int8, write_onnx
from seglab.nets.bsunet import BSUNet, EncodingUNet
from seglab.nets.unet import UNet


def with_logits(share: float) -> Tensor:
    """(1, 2, 10, 100) whose first `share` of pixels are of class 1."""
    logits = torch.zeros(1, 2, 1000)
    logits[:, 0] = 0.5
    logits[:, 1, : round(share * 1000)] = 1
    return logits.view(1, 2, 10, 100)


def test_a_way_that_agrees_is_checked_until_several_classes_were_seen() -> None:
    computed = []

    def sure(batch: Tensor) -> Tensor:
        computed.append(len(computed))
        return with_logits(0.0 if len(computed) == 1 else 0.5)

    fast = Checked(lambda _: with_logits(0.0 if len(computed) == 0 else 0.5), sure, "bf16-mixed")
    for _ in range(6):
        fast(torch.zeros(1))
    assert len(computed) == 2 and fast.is_fast


def test_windows_of_one_class_are_checked_a_few_times_only() -> None:
    fast = Checked(lambda _: with_logits(0), lambda _: with_logits(0), "bf16-mixed")
    for _ in range(MAX_CHECKS):
        fast(torch.zeros(1))
    assert fast.checks_left == 0


def test_a_way_with_other_labels_is_left_with_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    fast = Checked(lambda _: with_logits(0.5), lambda _: with_logits(0.506), "bf16-mixed")
    assert torch.equal(fast(torch.zeros(1)), with_logits(0.506))
    assert not fast.is_fast and "99.40%" in caplog.text and "float32" in caplog.text
    assert torch.equal(fast(torch.zeros(1)), with_logits(0.506))


def test_precision_is_that_of_the_call_whatever_is_around_it() -> None:
    conv = torch.nn.Conv2d(1, 1, 1)
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        assert in_precision(conv, None, "cpu")(torch.zeros(1, 1, 2, 2)).dtype == torch.float32
    with torch.no_grad():
        assert in_precision(conv, torch.bfloat16, "cpu")(torch.zeros(1, 1, 2, 2)).dtype == torch.bfloat16


def multiples_of_16(size: Sequence[int]) -> tuple[int, ...]:
    return tuple(-(-length // 16) * 16 for length in size)


def test_the_rule_of_sizes_is_found_by_asking() -> None:
    assert SizeRule.of(multiples_of_16, 2) == SizeRule((16, 16), (16, 16), (16, 16))
    assert SizeRule.of(lambda size: tuple(max(128, n) for n in multiples_of_16(size)), 3).covered == (128,) * 3
    valid = UNet(in_channels=1, num_classes=2, spatial_dims=2, base_channels=2, padding="valid")
    rule = SizeRule.of(valid.input_size_for, 2)
    for length in (5, 100, 388):
        more = max(0, -(-(length - rule.covered[0]) // rule.step[0]))
        assert valid.input_size_for((length, length)) == (rule.first[0] + more * rule.step[0],) * 2


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_one_file_serves_windows_of_every_size_also_in_8_bits(tmp_path: Path) -> None:
    pytest.importorskip("onnxscript")
    pytest.importorskip("onnxruntime")
    net = UNet(in_channels=1, num_classes=2, spatial_dims=2, base_channels=2, n_poolings=1, norm="batch").eval()
    write_onnx(traced(net, 1, SizeRule.of(net.input_size_for, 2)), net, tmp_path / "net.onnx")
    compute = Onnxruntime(tmp_path / "net.onnx", 1)
    windows = [torch.randn(3, 1, height, width) for height, width in ((2, 2), (16, 34), (64, 20))]
    with torch.no_grad():
        for window in windows:
            assert torch.allclose(compute(window), net(window), atol=1e-4)
        write_int8(tmp_path / "net.onnx", tmp_path / "int8.onnx", list(windows[1]))
        rounded = Onnxruntime(tmp_path / "int8.onnx", 1)(windows[1])
        assert 0 < (rounded - net(windows[1])).abs().max() < 0.2 * net(windows[1]).abs().max()


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("cls", [BSUNet, EncodingUNet])
def test_strided_and_dilated_volumes_of_every_size_are_those_of_the_network(
    cls: type[BSUNet | EncodingUNet], tmp_path: Path
) -> None:
    pytest.importorskip("onnxscript")
    pytest.importorskip("onnxruntime")
    torch.manual_seed(0)
    net = cls(in_channels=1, num_classes=3, spatial_dims=3, base_channels=2)
    for module in net.modules():
        if isinstance(module, torch.nn.BatchNorm3d):
            module.momentum = 1.0
    with torch.no_grad():
        net(torch.randn(2, 1, 32, 32, 32))  # statistics without which features die out in an untrained network
        write_onnx(traced(net.eval(), 1, SizeRule.of(net.input_size_for, 3)), net, tmp_path / "net.onnx")
        compute = Onnxruntime(tmp_path / "net.onnx", 1)
        for size in ((32, 32, 32), (64, 32, 96)):
            wanted = net(window := torch.randn(1, 1, *size))
            assert wanted.abs().max() > 0 and (compute(window) - wanted).abs().max() < 1e-4 * wanted.abs().max()


class Branching(torch.nn.Module):
    """What it does depends on what it sees."""

    def forward(self, image: Tensor) -> Tensor:
        return image if image.sum() > 0 else -image


def test_a_network_that_cannot_be_traced_is_refused_by_name() -> None:
    with pytest.raises(ConfigError, match="Branching cannot be exported"):
        traced(Branching(), 1, SizeRule((8, 8), (8, 8), (8, 8)))
