"""Whether an exported file does what its network does, on real windows."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from seglab.errors import ConfigError
from seglab.inference.backend import agreement, in_precision
from seglab.inference.labels import labels_from_logits
from seglab.inference.network import Predict
from seglab.task.segmentation import SegmentationTask

MIN_AGREEMENT = 0.9999
"""Share of pixels that must get the same label from file and network."""

MAX_GAP = 0.01
"""Largest difference of logits, as a share of the largest logit: labels tell little where a window is all one class."""


@dataclass(frozen=True)
class Agreement:
    """How far a file agrees with its network.

    Args:
        labels: share of pixels with the same label.
        logits: largest difference of logits, as a share of the largest logit.
        n_windows: that were compared.
    """

    labels: float
    logits: float
    n_windows: int

    def __str__(self) -> str:
        return (
            f"compared on {self.n_windows} windows: {self.labels:.4%} of the labels are the same, logits differ by "
            f"{self.logits:.1e} of the largest at most"
        )


@torch.inference_mode()
def compared(task: SegmentationTask, compute: Predict, windows: Sequence[Tensor]) -> Agreement:
    """Compare logits and labels on windows (C, *spatial), one by one, against the network in float32."""
    network = in_precision(task.logits, None, task.device.type)
    shares, gaps = [], []
    for window in windows:
        wanted, given = network(window[None]).float(), compute(window[None])
        shares.append(agreement(labels_from_logits(given), labels_from_logits(wanted)))
        gap = (given - wanted).abs().max() / wanted.abs().max().clamp_min(1e-12)
        gaps.append(float(gap.nan_to_num(nan=math.inf)))
    return Agreement(sum(shares) / len(shares), max(gaps), len(windows))


def check_agreement(found: Agreement, task: SegmentationTask) -> None:
    """Refuse a file that gives other labels or other logits than its network.

    Raises:
        ConfigError: says how far they are apart.
    """
    if found.labels < MIN_AGREEMENT or found.logits > MAX_GAP:
        raise ConfigError(
            f"the exported file computes something else than {type(task.net).__name__}",
            given=str(found),
            allowed=f"{MIN_AGREEMENT:.2%} of the labels the same, logits that differ by {MAX_GAP:.0%} of the largest",
            fix="choose another format=..., or predict with inference.backend=torch",
        )
