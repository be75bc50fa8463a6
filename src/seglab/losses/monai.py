"""MONAI's losses as terms of a run."""

import torch
from torch import Tensor, nn

from seglab.losses.inputs import full_precision, valid_pixels

CERTAIN = 30.0
"""Logit of an ignored pixel's background: softmax and sigmoid call it certain, float32 loses nothing."""


class MonaiLoss(nn.Module):
    """A loss of MONAI, which wants the mask with a channel axis and knows no ignored pixels.

    Ignored pixels become background that the network is sure of: their logits change nothing and get no gradient, and
    foreground sums of Dice and its kin are exact. They still count as right background: a mean over pixels (the
    cross-entropy of DiceCELoss) is diluted by their share, and a score of class 0 comes out a little too good.

    Args:
        loss: takes (N, K, *spatial) logits and a (N, 1, *spatial) mask: set to_onehot_y and softmax where it has them.

    Shape:
        logits (N, K, *spatial), mask (N, *spatial) int64 -> scalar.

    Raises:
        ShapeError: logits and mask do not fit.
    """

    def __init__(self, *, loss: nn.Module) -> None:
        super().__init__()
        self.loss = loss

    def forward(self, logits: Tensor, mask: Tensor) -> Tensor:
        """Hand logits and mask on, ignored pixels as certain background."""
        logits = full_precision(logits, mask)
        ignored = ~valid_pixels(mask).unsqueeze(1)  # (N, 1, *spatial)
        background = torch.full_like(logits[:1], -CERTAIN)
        background[:, 0] = CERTAIN
        value: Tensor = self.loss(torch.where(ignored, background, logits), mask.unsqueeze(1).masked_fill(ignored, 0))
        return value
