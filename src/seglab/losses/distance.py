"""Losses that weigh pixels by a distance map; the data makes the map under the name that the loss asks for."""

from collections.abc import Sequence
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from seglab.errors import ShapeError
from seglab.losses.class_weights import fitting_weights, pixel_weights, total_weight, weight_tensor
from seglab.losses.inputs import full_precision, require, valid_pixels
from seglab.losses.sums import mean_over_classes, soft_and_true, soft_sums
from seglab.spec import IGNORE_INDEX


class BorderWeightedCELoss(nn.Module):
    """U-Net's weighted cross-entropy: w = w_c + w0 exp(-(d1 + d2)^2 / (2 sigma^2)), high where instances nearly touch.

    Source: Ronneberger et al. 2015, eq. 1 and 2 (https://arxiv.org/abs/1505.04597). Differs from the paper: the mean
    over the pixels that are not ignored in place of the sum.

    Args:
        class_weights: w_c, one weight per class, background included; None for 1. Balanced are 1 / (2 f) with f the
            share of the class.
        w0: largest extra weight, where both distances are 0.
        sigma: reach of the extra weight, pixels.

    Shape:
        logits (N, K, *spatial), mask (N, *spatial) int64, distance (N, *spatial): d1 + d2, the distances to the nearest
        and the second-nearest instance border in pixels -> scalar.

    Raises:
        ConfigError: negative weights, another number of weights than classes, or sigma not positive.
        ShapeError: logits, mask and distance do not fit.
    """

    map_name: ClassVar[str] = "border"
    class_weights: Tensor | None

    def __init__(self, *, class_weights: Sequence[float] | None = None, w0: float = 10.0, sigma: float = 5.0) -> None:
        super().__init__()
        require(w0 >= 0, "w0", w0, "numbers from 0 up")
        require(sigma > 0, "sigma", sigma, "numbers above 0")
        self.w0, self.sigma = w0, sigma
        self.register_buffer("class_weights", weight_tensor("class_weights", class_weights), persistent=False)

    def forward(self, logits: Tensor, mask: Tensor, distance: Tensor) -> Tensor:
        """Compare softmax(logits) with the mask."""
        logits = full_precision(logits, mask)
        weights = self.pixel_weights(logits, mask, distance)
        per_pixel = F.cross_entropy(logits, mask, ignore_index=IGNORE_INDEX, reduction="none")
        return (weights * per_pixel).sum() / total_weight(mask, None)

    def pixel_weights(self, logits: Tensor, mask: Tensor, distance: Tensor) -> Tensor:
        """The map w, (N, *spatial)."""
        class_weights = fitting_weights("class_weights", self.class_weights, logits)
        balance = 1.0 if class_weights is None else pixel_weights(mask, class_weights)
        return balance + self.w0 * _bell(_fitting_map(distance, mask, logits), self.sigma)


class WeightedDiceLoss(nn.Module):
    """BS U-Net's weighted Dice: 1 - (2 sum W A B + smooth) / (sum W A + sum W B + smooth), W high at the outline.

    Source: Li and Tso 2018 (https://arxiv.org/abs/1810.10331): W is A stretched to [0, 1] over each sample, with
    A = (w F + 1) exp(-D^2 / (2 sigma^2)), D the distance to the organ's outline and F the region of interest. Our
    reconstruction: F is the mask's foreground, the values of w and sigma, and W = 1 in a sample without an outline.
    Beyond some 10 sigma from the outline W vanishes and false alarms cost nothing: use it beside a loss that sees them.

    Args:
        w: extra weight of the inside.
        sigma: reach of the weight, pixels.
        smooth: added to numerator and denominator, in weighted pixels.
        include_background: count class 0; True for data without a background class.

    Shape:
        logits (N, K, *spatial), mask (N, *spatial) int64, distance (N, *spatial): to the outline in pixels -> scalar.

    Raises:
        ConfigError: w negative, or sigma or smooth not positive.
        ShapeError: logits, mask and distance do not fit.
    """

    map_name: ClassVar[str] = "outline"

    def __init__(
        self, *, w: float = 1.0, sigma: float = 5.0, smooth: float = 1.0, include_background: bool = False
    ) -> None:
        super().__init__()
        require(w >= 0, "w", w, "numbers from 0 up")
        require(sigma > 0, "sigma", sigma, "numbers above 0")
        require(smooth > 0, "smooth", smooth, "numbers above 0")
        self.w, self.sigma, self.smooth, self.include_background = w, sigma, smooth, include_background

    def forward(self, logits: Tensor, mask: Tensor, distance: Tensor) -> Tensor:
        """Compare softmax(logits) with the mask."""
        logits = full_precision(logits, mask)
        weights = self.pixel_weights(mask, _fitting_map(distance, mask, logits))
        sums = soft_sums(logits, mask, squared=False, per_sample=False, weights=weights)
        score = (2 * sums.hit + self.smooth) / (sums.predicted + sums.true + self.smooth)  # (1, K)
        return mean_over_classes(1 - score, sums.has_pixels, include_background=self.include_background)

    def pixel_weights(self, mask: Tensor, distance: Tensor) -> Tensor:
        """The map W, (N, *spatial); ignored pixels have no part in its range."""
        valid = valid_pixels(mask)
        raw = (self.w * (mask > 0) + 1) * _bell(distance, self.sigma)  # A
        space = tuple(range(1, mask.ndim))
        low = raw.masked_fill(~valid, torch.inf).amin(dim=space, keepdim=True)
        high = raw.masked_fill(~valid, -torch.inf).amax(dim=space, keepdim=True)
        return torch.where(high > low, (raw - low) / (high - low), 1.0)


class BoundaryLoss(nn.Module):
    """Boundary loss: the mean over pixels of signed distance times foreground probability.

    Source: Kervadec et al. 2019, eq. 5 (https://arxiv.org/abs/1812.07032), meant beside Dice. Foreground is every class
    but 0: with more than two classes it draws the outline of their union, and the other term tells them apart.
    Negative where the prediction is right.

    Shape:
        logits (N, K, *spatial), mask (N, *spatial) int64, distance (N, *spatial): to the outline of the foreground in
        pixels, negative inside -> scalar.

    Raises:
        ShapeError: logits, mask and distance do not fit.
    """

    map_name: ClassVar[str] = "signed"

    def __init__(self) -> None:  # torch's own would take any argument, and so any typo of the configuration
        super().__init__()

    def forward(self, logits: Tensor, mask: Tensor, distance: Tensor) -> Tensor:
        """Weigh the foreground of softmax(logits) by its distance from where it belongs."""
        probs, _ = soft_and_true(logits, mask)  # zero at ignored pixels
        weighted = probs[:, 1:].sum(dim=1) * _fitting_map(distance, mask, probs)  # (N, *spatial)
        return weighted.sum() / total_weight(mask, None)


def _bell(distance: Tensor, sigma: float) -> Tensor:
    return torch.exp(-distance.square() / (2 * sigma**2))


def _fitting_map(distance: Tensor, mask: Tensor, logits: Tensor) -> Tensor:
    if distance.shape != mask.shape:
        raise ShapeError(
            "distance map and mask do not fit",
            given=f"map {tuple(distance.shape)}, mask {tuple(mask.shape)}",
            allowed="one distance per pixel of the mask",
            fix="make the map from the mask after augmentation and padding",
        )
    return distance.to(logits)
