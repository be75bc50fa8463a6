"""Backends: what computes the logits of windows in prediction, torch itself or a runtime that reads an ONNX file."""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from seglab.extras import load
from seglab.inference.labels import labels_from_logits
from seglab.inference.network import Predict

Backend = Literal["torch", "onnxruntime", "openvino"]
BACKENDS: tuple[str, ...] = get_args(Backend)

MIN_AGREEMENT = 0.995
"""Share of pixels that must get the same label in half precision."""

MAX_CHECKS = 4
"""Batches that are computed twice at most: until one with several classes was among them."""

KEPT = 8
"""Window sizes for which a compiled network is kept."""

log = logging.getLogger("seglab")


class Checked:
    """Logits computed fast, as long as they give the labels of a surer way.

    The first batches are computed both ways, until one shows several classes. Where the labels differ, everything goes
    on in the surer way, with a warning.

    Args:
        fast: gives logits of a batch.
        sure: gives them in float32.
        name: of the fast way.
    """

    def __init__(self, fast: Predict, sure: Predict, name: str) -> None:
        self.fast, self.sure, self.name = fast, sure, name
        self.is_fast, self.checks_left = True, MAX_CHECKS

    def __call__(self, batch: Tensor) -> Tensor:
        """Logits of a batch."""
        if not self.is_fast:
            return self.sure(batch)
        return self._checked(batch) if self.checks_left else self.fast(batch)

    def _checked(self, batch: Tensor) -> Tensor:
        logits, wanted = self.fast(batch), self.sure(batch)
        labels = labels_from_logits(wanted)
        share = agreement(labels_from_logits(logits), labels)
        shows_classes = bool((labels != labels.flatten()[0]).any())
        self.checks_left = 0 if shows_classes else self.checks_left - 1
        if share >= MIN_AGREEMENT:
            return logits
        self.is_fast = False
        log.warning(
            f"{self.name} gives only {share:.2%} of the pixels the label that float32 gives them "
            f"(at least {MIN_AGREEMENT:.1%} are asked for): predicting in float32"
        )
        return wanted


def in_precision(logits: Predict, dtype: torch.dtype | None, device_type: str) -> Predict:
    """The same network under autocast.

    Args:
        logits: gives logits of a batch.
        dtype: bfloat16, float16, or None for float32.
        device_type: cpu or cuda.
    """

    def compute(batch: Tensor) -> Tensor:
        """Logits in the precision that was asked for."""
        with torch.autocast(device_type, dtype=dtype, enabled=dtype is not None):
            return logits(batch)

    return compute


class Onnxruntime:
    """Logits from an ONNX file by onnxruntime, on the CPU.

    Args:
        file: of a network whose input is one image of any size.
        threads: that it uses.

    Raises:
        ConfigError: onnxruntime is not installed.
    """

    def __init__(self, file: Path, threads: int) -> None:
        runtime = load("onnxruntime", "export", "inference.backend=onnxruntime")
        options = runtime.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 3  # errors
        self.session = runtime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
        self.name = self.session.get_inputs()[0].name

    def __call__(self, batch: Tensor) -> Tensor:
        """Logits (B, K, *output) of a batch (B, C, *input), image by image."""
        return _one_by_one(batch, lambda image: self.session.run(None, {self.name: image})[0])


class Openvino:
    """Logits from an ONNX file by OpenVINO, on the CPU; compiled anew for each size of windows.

    Args:
        file: of a network whose input is one image of any size.
        threads: that it uses.
        precision: "f32" or "bf16", of what the file has in float32.

    Raises:
        ConfigError: openvino is not installed.
    """

    def __init__(self, file: Path, threads: int, precision: Literal["f32", "bf16"] = "f32") -> None:
        self.core = load("openvino", "export", "inference.backend=openvino").Core()
        self.file = file
        self.settings = {
            "INFERENCE_NUM_THREADS": threads,
            "NUM_STREAMS": 1,
            "INFERENCE_PRECISION_HINT": precision,
        }
        self.compiled: dict[tuple[int, ...], Callable[[Any], Any]] = {}

    def __call__(self, batch: Tensor) -> Tensor:
        """Logits (B, K, *output) of a batch (B, C, *input), image by image."""
        compute = self._compiled((1, *batch.shape[1:]))
        return _one_by_one(batch, lambda image: compute(image)[0])

    def _compiled(self, shape: tuple[int, ...]) -> Callable[[Any], Any]:
        if shape not in self.compiled:
            while len(self.compiled) >= KEPT:
                self.compiled.pop(next(iter(self.compiled)))
            model = self.core.read_model(str(self.file))
            model.reshape(list(shape))
            self.compiled[shape] = self.core.compile_model(model, "CPU", self.settings)
        return self.compiled[shape]


def agreement(labels: Tensor, wanted: Tensor) -> float:
    """Share of pixels with the same label."""
    return float((labels == wanted).float().mean(dtype=torch.float64))


def _one_by_one(batch: Tensor, compute: Callable[[Any], Any]) -> Tensor:
    images = batch.detach().cpu().float().contiguous().numpy()
    return torch.cat([torch.from_numpy(compute(image[None]).copy()) for image in images])
