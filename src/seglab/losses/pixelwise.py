"""Losses that judge each pixel by itself: cross-entropy, focal loss and L1."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from seglab.losses.class_weights import fitting_weights, pixel_weights, total_weight, weight_tensor
from seglab.losses.inputs import full_precision, require
from seglab.losses.sums import soft_and_true
from seglab.spec import IGNORE_INDEX


class CrossEntropyLoss(nn.Module):
    """Softmax cross-entropy, averaged over the pixels that are not ignored.

    With class weights the mean is the weighted one: the sum is divided by the sum of the pixels' weights, as torch
    does. Unlike torch, a batch of ignored pixels only gives 0 instead of NaN.

    Args:
        class_weights: one weight per class, background included; None weighs all alike.
        label_smoothing: share of the target that is spread over all classes, in [0, 1).

    Shape:
        logits (N, K, *spatial), mask (N, *spatial) int64 -> scalar.

    Raises:
        ConfigError: negative weights, another number of weights than classes, or smoothing out of range.
        ShapeError: logits and mask do not fit.
    """

    class_weights: Tensor | None

    def __init__(self, *, class_weights: Sequence[float] | None = None, label_smoothing: float = 0.0) -> None:
        super().__init__()
        require(0 <= label_smoothing < 1, "label_smoothing", label_smoothing, "numbers from 0 up to below 1")
        self.label_smoothing = label_smoothing
        self.register_buffer("class_weights", weight_tensor("class_weights", class_weights), persistent=False)

    def forward(self, logits: Tensor, mask: Tensor) -> Tensor:
        """Compare softmax(logits) with the mask."""
        logits = full_precision(logits, mask)
        weights = fitting_weights("class_weights", self.class_weights, logits)
        per_pixel = F.cross_entropy(
            logits,
            mask,
            weight=weights,
            ignore_index=IGNORE_INDEX,
            label_smoothing=self.label_smoothing,
            reduction="none",  # torch's own sum has no deterministic form on a GPU
        )
        return per_pixel.sum() / total_weight(mask, weights)


class FocalLoss(nn.Module):
    """Focal loss: -alpha (1 - p)^gamma log p of the true class, averaged over the pixels that are not ignored.

    Source: Lin et al. 2017, eq. 5 (https://arxiv.org/abs/1708.02002), softmax in place of the sigmoid.

    Args:
        gamma: exponent that turns down pixels that are already right; 0 is cross-entropy.
        alpha: one weight per class, background included; None weighs all alike. It scales the sum only: the mean is
            over pixels, as in the paper.

    Shape:
        logits (N, K, *spatial), mask (N, *spatial) int64 -> scalar.

    Raises:
        ConfigError: negative gamma or weights, or another number of weights than classes.
        ShapeError: logits and mask do not fit.
    """

    alpha: Tensor | None

    def __init__(self, *, gamma: float = 2.0, alpha: Sequence[float] | None = None) -> None:
        super().__init__()
        require(gamma >= 0, "gamma", gamma, "numbers from 0 up")
        self.gamma = gamma
        self.register_buffer("alpha", weight_tensor("alpha", alpha), persistent=False)

    def forward(self, logits: Tensor, mask: Tensor) -> Tensor:
        """Compare softmax(logits) with the mask."""
        logits = full_precision(logits, mask)
        alpha = fitting_weights("alpha", self.alpha, logits)
        minus_log_p = F.cross_entropy(logits, mask, ignore_index=IGNORE_INDEX, reduction="none")  # (N, *spatial)
        # 1 - p by expm1 keeps its digits near p = 1; the floor keeps the slope finite there for gamma below 1.
        wrong = -torch.expm1(-minus_log_p)
        loss = wrong.clamp_min(torch.finfo(wrong.dtype).tiny) ** self.gamma * minus_log_p
        if alpha is not None:
            loss = loss * pixel_weights(mask, alpha)
        return loss.sum() / total_weight(mask, None)


class L1Loss(nn.Module):
    """Mean of |softmax(logits) - truth| over classes and the pixels that are not ignored.

    Source: Zahra et al. 2020 (https://arxiv.org/abs/2005.05218) for a sigmoid map; with two classes it is the same
    number. With K classes it is 2 / K times the probability that is missing at the true class.

    Shape:
        logits (N, K, *spatial), mask (N, *spatial) int64 -> scalar.

    Raises:
        ShapeError: logits and mask do not fit.
    """

    def __init__(self) -> None:  # torch's own would take any argument, and so any typo of the configuration
        super().__init__()

    def forward(self, logits: Tensor, mask: Tensor) -> Tensor:
        """Compare softmax(logits) with the mask."""
        probs, is_class = soft_and_true(logits, mask)
        return (probs - is_class.to(probs.dtype)).abs().mean(dim=1).sum() / total_weight(mask, None)
