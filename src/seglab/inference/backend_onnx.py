"""From a network to files that others run: a traced program, ONNX, ONNX in 8 bits, OpenVINO's own format."""

import io
import logging
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from itertools import count as counting
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from seglab.errors import ConfigError
from seglab.extras import load, require

LONGEST = 4096
"""Largest number of steps along an axis that a traced network takes."""

SizeFor = Callable[[Sequence[int]], Sequence[int]]


@dataclass(frozen=True)
class SizeRule:
    """Which lengths a network takes along each axis: `first`, and `step` more each.

    Args:
        first: shortest length that it takes.
        step: distance of lengths.
        covered: longest length that the output of `first` covers; each step covers `step` more.
    """

    first: tuple[int, ...]
    step: tuple[int, ...]
    covered: tuple[int, ...]

    @classmethod
    def of(cls, size_for: SizeFor, spatial_dims: int) -> "SizeRule":
        """Found by asking for sizes.

        Args:
            size_for: the smallest size that the network takes whose output covers a size.
            spatial_dims: 2 or 3.
        """
        first = size_for([1] * spatial_dims)
        for length in counting(2):
            second = size_for([length] * spatial_dims)
            if all(after > before for before, after in zip(first, second, strict=True)):
                break
        covered = [
            max(k for k in range(1, length) if size_for([k] * spatial_dims)[axis] == first[axis])
            for axis in range(spatial_dims)
        ]
        steps = tuple(after - before for before, after in zip(first, second, strict=True))
        return cls(tuple(first), steps, tuple(covered))


def traced(net: nn.Module, in_channels: int, rule: SizeRule) -> ExportedProgram:
    """A network as a program of torch.export for one image of any size that the network takes.

    Args:
        net: in eval mode, on the CPU.
        in_channels: of its images.
        rule: of its sizes.

    Raises:
        ConfigError: a network that cannot be traced, and why.
    """
    size = [length + times * step for length, step, times in zip(rule.first, rule.step, (1, 2, 1), strict=False)]
    sizes = {
        axis: _lengths(f"n{axis}", length, step)
        for axis, (length, step) in enumerate(zip(rule.first, rule.step, strict=True), start=2)
    }
    image = torch.randn(1, in_channels, *size, generator=torch.Generator().manual_seed(0))
    try:
        with _quiet(), torch.no_grad():
            return torch.export.export(net, (image,), dynamic_shapes=(sizes,), strict=False)
    except (RuntimeError, ValueError, TypeError, IndexError) as error:
        raise _not_exported(net, error) from error


def write_onnx(program: ExportedProgram, net: nn.Module, file: Path) -> None:
    """Write a traced network as ONNX: "image" (1, C, *spatial) to "logits" (1, K, *output).

    Args:
        program: from `traced`.
        net: for the message.
        file: to write, in one file up to 2 GB.

    Raises:
        ConfigError: a network that cannot be written, or packages that are missing.
    """
    for package in ("onnx", "onnxscript"):
        require(package, "export", "writing ONNX")
    try:
        with _quiet(), torch.no_grad():
            made: Any = torch.onnx.export(
                program, (), dynamo=True, verbose=False, input_names=["image"], output_names=["logits"]
            )
            made.save(str(file))
    except (RuntimeError, ValueError, TypeError, IndexError) as error:
        raise _not_exported(net, error) from error


def write_int8(file: Path, target: Path, windows: Sequence[Tensor]) -> None:
    """Write an ONNX file with convolutions in 8 bits: weights per channel, activations by the range of real windows.

    Source: Jacob et al. 2018 (https://arxiv.org/abs/1712.05877), as onnxruntime's static quantisation does it.

    Args:
        file: from `write_onnx`.
        target: to write.
        windows: network input (C, *spatial), a dozen of different places.
    """
    quantization = load("onnxruntime.quantization", "export", "inference.int8=true")
    images = iter([{"image": window[None].float().numpy()} for window in windows])

    class Reader(quantization.CalibrationDataReader):  # type: ignore[misc, name-defined]  # onnxruntime has no types
        """Gives the images one by one, as the quantiser asks for them."""

        def get_next(self) -> dict[str, Any] | None:
            """The next image, None after the last."""
            return next(images, None)

    with _quiet():
        quantization.quantize_static(
            str(file),
            str(target),
            Reader(),
            quant_format=quantization.QuantFormat.QDQ,
            per_channel=True,
            activation_type=quantization.QuantType.QUInt8,
            weight_type=quantization.QuantType.QInt8,
        )


def write_openvino(file: Path, target: Path) -> None:
    """Write an ONNX file as OpenVINO's own: `target` (.xml) and beside it the weights (.bin), in float32."""
    openvino = load("openvino", "export", "format=openvino")
    openvino.save_model(openvino.Core().read_model(str(file)), str(target), compress_to_fp16=False)


def _lengths(name: str, first: int, step: int) -> Any:
    """The lengths from `first` on, `step` apart, as a symbol."""
    times = step * Dim(name, min=first // step, max=LONGEST)
    return times + first % step if first % step else times


def _not_exported(net: nn.Module, error: Exception) -> ConfigError:
    reason = " ".join(str(error).split())[:300]
    return ConfigError(
        f"{type(net).__name__} cannot be exported",
        given=f"{type(error).__name__}: {reason}",
        allowed="networks to which python src/info.py what=compatibility says yes under ONNX",
        fix="predict with inference.backend=torch, or train another model=...",
    )


@contextmanager
def _quiet() -> Iterator[None]:
    """Without what the exporters say about themselves."""
    names = ("torch.onnx", "torch.export", "onnxscript", "onnx_ir", "")
    levels = {name: logging.getLogger(name).level for name in names}
    for name in names:
        logging.getLogger(name).setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)
