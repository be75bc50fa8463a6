"""The sums that overlap losses are made of, and the one rule for ignored pixels and absent classes.

Classes that are absent from the batch stay in the mean. Absent from truth and prediction, both sums are zero and a
score with a smoothing term is smooth / smooth = 1 (loss 0); absent from the truth only, the score is
smooth / (predicted + smooth), which pushes false alarms down. A batch, or with `per_sample` a sample, of ignored
pixels only is left out; without any pixel the loss is 0 and so is its gradient.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from seglab.losses.inputs import full_precision, valid_pixels


@dataclass(frozen=True)
class SoftSums:
    """Sums over pixels, (S, K) with S = N per sample and S = 1 pooled.

    Args:
        hit: probability where it is right.
        predicted: all probability, squared on demand.
        true: pixels of the class.
        has_pixels: (S,) whether any pixel counts.
    """

    hit: Tensor
    predicted: Tensor
    true: Tensor
    has_pixels: Tensor


def soft_and_true(logits: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Probabilities and truth by class, both zero where the mask is ignored.

    Shape:
        logits (N, K, *spatial), mask (N, *spatial) int64 -> probabilities (N, K, *spatial), truth likewise and bool.

    Raises:
        ShapeError: logits and mask do not fit.
    """
    logits = full_precision(logits, mask)
    probs = logits.softmax(dim=1).masked_fill(~valid_pixels(mask).unsqueeze(1), 0.0)  # (N, K, *spatial)
    classes = torch.arange(logits.shape[1], device=mask.device).view(1, -1, *[1] * (mask.ndim - 1))
    return probs, mask.unsqueeze(1) == classes  # an ignored pixel is of no class


def soft_sums(
    logits: Tensor, mask: Tensor, *, squared: bool, per_sample: bool, weights: Tensor | None = None
) -> SoftSums:
    """Sum probability and truth over the pixels that are not ignored.

    Args:
        logits: (N, K, *spatial).
        mask: (N, *spatial) int64.
        squared: square the probabilities in `predicted`.
        per_sample: one sum per sample; else one over the batch.
        weights: (N, *spatial), the weight of each pixel in every sum; None for 1.
    """
    probs, is_class = soft_and_true(logits, mask)

    def pooled(values: Tensor) -> Tensor:
        """Weighted sums over pixels, of each sample or of the batch."""
        values = values if weights is None else values * weights.unsqueeze(1)
        sums = values.flatten(2).sum(dim=2, dtype=probs.dtype)  # (N, K)
        return sums if per_sample else sums.sum(dim=0, keepdim=True)  # (S, K)

    has_pixels = valid_pixels(mask).flatten(1).any(dim=1)  # (N,)
    return SoftSums(
        hit=pooled(probs * is_class),
        predicted=pooled(probs.square() if squared else probs),
        true=pooled(is_class),
        has_pixels=has_pixels if per_sample else has_pixels.any(dim=0, keepdim=True),
    )


def mean_over_classes(loss: Tensor, has_pixels: Tensor, *, include_background: bool) -> Tensor:
    """Average a loss over its classes, then over the sets that have pixels.

    Shape:
        loss (S, K), has_pixels (S,) -> scalar.
    """
    per_set = loss[:, 0 if include_background else 1 :].mean(dim=1)  # (S,)
    return (per_set * has_pixels).sum() / has_pixels.sum().clamp_min(1)
