"""The loss of one region against the rest, as E1D3 U-Net puts on each of its decoders."""

from torch import Tensor, nn

from seglab.losses.inputs import require
from seglab.losses.pixelwise import CrossEntropyLoss
from seglab.losses.sums import mean_over_classes, soft_sums


class RegionLoss(nn.Module):
    """Cross-entropy minus Dice: the Dice is pooled over the batch and averaged over inside and outside of the region.

    Source: Bukhari and Mohy-ud-Din 2021 (E1D3 U-Net, https://arxiv.org/abs/2110.02519), two classes per region; a
    perfect prediction gives -1. More classes are averaged likewise, background included.

    Args:
        eps: added to numerator and denominator of the Dice, in pixels.

    Shape:
        logits (N, 2, *spatial), mask (N, *spatial) int64 with 1 inside -> scalar.

    Raises:
        ConfigError: eps is not positive.
        ShapeError: logits and mask do not fit.
    """

    def __init__(self, *, eps: float = 1e-7) -> None:
        super().__init__()
        require(eps > 0, "eps", eps, "numbers above 0")
        self.eps = eps
        self.cross_entropy = CrossEntropyLoss()

    def forward(self, logits: Tensor, mask: Tensor) -> Tensor:
        """Compare softmax(logits) with the mask."""
        sums = soft_sums(logits, mask, squared=False, per_sample=False)
        score = (2 * sums.hit + self.eps) / (sums.predicted + sums.true + self.eps)  # (1, K)
        dice = mean_over_classes(score, sums.has_pixels, include_background=True)
        cross_entropy: Tensor = self.cross_entropy(logits, mask)
        return cross_entropy - dice
