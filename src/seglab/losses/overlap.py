"""Losses on the overlap of soft prediction and truth: Dice, Tversky, focal Tversky; absent classes as `sums` says."""

import torch
from torch import Tensor, nn

from seglab.losses.inputs import require
from seglab.losses.sums import SoftSums, mean_over_classes, soft_sums

TINY = 1e-6
"""Below this a loss counts as zero: a root has no finite slope there."""


class DiceLoss(nn.Module):
    """Soft Dice: 1 - (2 TP + smooth) / (predicted + true + smooth), pooled over the batch, averaged over classes.

    Source: Milletari et al. 2016 (V-Net) with `squared`; the plain sums are Drozdzal et al. 2016.

    Args:
        include_background: count class 0; True for data without a background class.
        smooth: added to numerator and denominator, in pixels; 1 is small beside a batch, yet gives an absent class
            a slope.
        squared: square the probabilities in the denominator, as V-Net does.
        per_sample: one score per sample, then the mean; else one score per batch.

    Shape:
        logits (N, K, *spatial), mask (N, *spatial) int64 -> scalar.

    Raises:
        ConfigError: smooth is not positive.
        ShapeError: logits and mask do not fit.
    """

    def __init__(
        self,
        *,
        include_background: bool = False,
        smooth: float = 1.0,
        squared: bool = False,
        per_sample: bool = False,
    ) -> None:
        super().__init__()
        require(smooth > 0, "smooth", smooth, "numbers above 0")
        self.include_background, self.smooth = include_background, smooth
        self.squared, self.per_sample = squared, per_sample

    def forward(self, logits: Tensor, mask: Tensor) -> Tensor:
        """Compare softmax(logits) with the mask."""
        sums = soft_sums(logits, mask, squared=self.squared, per_sample=self.per_sample)
        score = (2 * sums.hit + self.smooth) / (sums.predicted + sums.true + self.smooth)  # (S, K)
        return mean_over_classes(1 - score, sums.has_pixels, include_background=self.include_background)


class AGNDiceLoss(nn.Module):
    """Dice of Attention U-Net: 1 - mean of 2 (TP + smooth) / (predicted + true + smooth), per sample, all classes.

    Source: the released code of Oktay et al. 2018 (https://arxiv.org/abs/1804.03999), background included. Differs from
    it: a score ends at 1, where the code's, with its doubled smoothing on top, climbs to 2 for a class that is neither
    there nor predicted.

    Args:
        smooth: added to the overlap and to the denominator, in pixels.

    Shape:
        logits (N, K, *spatial), mask (N, *spatial) int64 -> scalar.

    Raises:
        ConfigError: smooth is not positive.
        ShapeError: logits and mask do not fit.
    """

    def __init__(self, *, smooth: float = 0.01) -> None:
        super().__init__()
        require(smooth > 0, "smooth", smooth, "numbers above 0")
        self.smooth = smooth

    def forward(self, logits: Tensor, mask: Tensor) -> Tensor:
        """Compare softmax(logits) with the mask."""
        sums = soft_sums(logits, mask, squared=False, per_sample=True)
        score = 2 * (sums.hit + self.smooth) / (sums.predicted + sums.true + self.smooth)  # (N, K)
        return mean_over_classes(1 - score.clamp_max(1), sums.has_pixels, include_background=True)


class TverskyLoss(nn.Module):
    """Tversky: 1 - (TP + smooth) / (TP + alpha FP + beta FN + smooth), averaged over classes.

    Source: Salehi et al. 2017, eq. 3 (https://arxiv.org/abs/1706.05721); alpha = beta = 0.5 is Dice.

    Args:
        alpha: price of a false positive.
        beta: price of a false negative; above alpha it favours recall.
        smooth: added to numerator and denominator, in pixels.
        include_background: count class 0; True for data without a background class.
        per_sample: one score per sample, then the mean; else one score per batch.

    Shape:
        logits (N, K, *spatial), mask (N, *spatial) int64 -> scalar.

    Raises:
        ConfigError: a negative price, both prices zero, or smooth not positive.
        ShapeError: logits and mask do not fit.
    """

    def __init__(
        self,
        *,
        alpha: float = 0.3,
        beta: float = 0.7,
        smooth: float = 1.0,
        include_background: bool = False,
        per_sample: bool = False,
    ) -> None:
        super().__init__()
        require(alpha >= 0, "alpha", alpha, "numbers from 0 up")
        require(beta >= 0 and alpha + beta > 0, "beta", beta, "numbers from 0 up, not 0 where alpha is 0")
        require(smooth > 0, "smooth", smooth, "numbers above 0")
        self.alpha, self.beta, self.smooth = alpha, beta, smooth
        self.include_background, self.per_sample = include_background, per_sample

    def forward(self, logits: Tensor, mask: Tensor) -> Tensor:
        """Compare softmax(logits) with the mask."""
        sums = soft_sums(logits, mask, squared=False, per_sample=self.per_sample)
        return mean_over_classes(self._distance(sums), sums.has_pixels, include_background=self.include_background)

    def _distance(self, sums: SoftSums) -> Tensor:
        false_alarms, missed = sums.predicted - sums.hit, sums.true - sums.hit
        bottom = sums.hit + self.alpha * false_alarms + self.beta * missed + self.smooth
        return 1 - (sums.hit + self.smooth) / bottom  # (S, K)


class FocalTverskyLoss(TverskyLoss):
    """Focal Tversky: (1 - TI)^gamma per class, with TI the Tversky index.

    Source: Abraham and Khan 2018 (https://arxiv.org/abs/1810.07842), whose exponent is 1/gamma; here gamma is the
    exponent itself. The defaults are those of the DC-UNet authors' code.

    Args:
        gamma: exponent; below 1 it keeps the slope up where the overlap is already good.
        alpha: price of a false positive.
        beta: price of a false negative.
        smooth: added to numerator and denominator, in pixels.
        include_background: count class 0; True for data without a background class.
        per_sample: one score per sample, then the mean; else one score per batch.

    Shape:
        logits (N, K, *spatial), mask (N, *spatial) int64 -> scalar.

    Raises:
        ConfigError: gamma not positive, or what TverskyLoss refuses.
        ShapeError: logits and mask do not fit.
    """

    def __init__(
        self,
        *,
        gamma: float = 0.75,
        alpha: float = 0.25,
        beta: float = 0.75,
        smooth: float = 1.0,
        include_background: bool = False,
        per_sample: bool = False,
    ) -> None:
        super().__init__(
            alpha=alpha, beta=beta, smooth=smooth, include_background=include_background, per_sample=per_sample
        )
        require(gamma > 0, "gamma", gamma, "numbers above 0")
        self.gamma = gamma

    def _distance(self, sums: SoftSums) -> Tensor:
        distance = super()._distance(sums)
        return torch.where(distance > TINY, distance.clamp_min(TINY) ** self.gamma, 0.0)
