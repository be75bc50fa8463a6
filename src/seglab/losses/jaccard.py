"""Jaccard losses on soft predictions; absent classes as `sums` says."""

from torch import Tensor, nn

from seglab.losses.inputs import require
from seglab.losses.sums import mean_over_classes, soft_sums


class JaccardLoss(nn.Module):
    """Soft Jaccard: 1 - (TP + smooth) / (predicted + true - TP + smooth), averaged over classes.

    Both forms are the Jaccard index where the prediction is binary. With `squared` it is the Tanimoto similarity of
    gray maps, A B / (|A|^2 + |B|^2 - A B), that DC-UNet (Lou et al. 2021, https://arxiv.org/abs/2006.00414) is scored
    by; without, the product-union form, which falls off faster where the prediction is unsure.

    Args:
        include_background: count class 0; True for data without a background class.
        smooth: added to numerator and denominator, in pixels.
        squared: square the probabilities in the denominator (Tanimoto).
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
        squared: bool = True,
        per_sample: bool = False,
    ) -> None:
        super().__init__()
        require(smooth > 0, "smooth", smooth, "numbers above 0")
        self.include_background, self.smooth = include_background, smooth
        self.squared, self.per_sample = squared, per_sample

    def forward(self, logits: Tensor, mask: Tensor) -> Tensor:
        """Compare softmax(logits) with the mask."""
        sums = soft_sums(logits, mask, squared=self.squared, per_sample=self.per_sample)
        score = (sums.hit + self.smooth) / (sums.predicted + sums.true - sums.hit + self.smooth)  # (S, K)
        return mean_over_classes(1 - score, sums.has_pixels, include_background=self.include_background)
