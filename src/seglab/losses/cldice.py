"""Soft clDice: overlap of centre lines, for roads, vessels and cracks that must not be torn apart."""

from functools import reduce

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from seglab.losses.inputs import require
from seglab.losses.sums import mean_over_classes, soft_and_true


class ClDiceLoss(nn.Module):
    """Soft clDice: 1 - harmonic mean of how much of each skeleton lies inside the other mask.

    Source: Shit et al. 2021, algorithms 1 and 2 (https://arxiv.org/abs/2003.07311); it is meant beside soft Dice,
    (1 - alpha) dice + alpha cldice, by the weights of the loss. Sums are pooled over the batch, classes averaged.
    Ignored pixels count as outside for the skeletons, so a line that runs into them keeps its centre up to their edge.

    Args:
        n_iterations: erosions of the skeleton, at least the largest radius of a line in pixels; more costs time only.
        smooth: added to numerator and denominator of both shares, in pixels.
        include_background: count class 0; True for data without a background class.

    Shape:
        logits (N, K, *spatial) with up to three spatial axes, mask (N, *spatial) int64 -> scalar.

    Raises:
        ConfigError: fewer than one iteration, or smooth is not positive.
        ShapeError: logits and mask do not fit.
    """

    def __init__(self, *, n_iterations: int = 5, smooth: float = 1.0, include_background: bool = False) -> None:
        super().__init__()
        require(n_iterations >= 1, "n_iterations", n_iterations, "whole numbers from 1 up")
        require(smooth > 0, "smooth", smooth, "numbers above 0")
        self.n_iterations, self.smooth, self.include_background = n_iterations, smooth, include_background

    def forward(self, logits: Tensor, mask: Tensor) -> Tensor:
        """Compare the skeletons of softmax(logits) and mask."""
        probs, is_class = soft_and_true(logits, mask)
        lines, truth = (part[:, 0 if self.include_background else 1 :] for part in (probs, is_class.to(probs.dtype)))
        precision = self._share_inside(lines, truth)
        recall = self._share_inside(truth, lines)
        score = 2 * precision * recall / (precision + recall)  # (1, K)
        return mean_over_classes(1 - score, is_class.any().view(1), include_background=True)

    def _share_inside(self, lines: Tensor, other: Tensor) -> Tensor:
        """How much of the skeleton of `lines` lies inside `other`, by class: (N, K, *spatial) twice -> (1, K)."""
        skeleton = soft_skeleton(lines, self.n_iterations)
        inside, everything = (part.flatten(2).sum(dim=(0, 2)) for part in (skeleton * other, skeleton))
        return ((inside + self.smooth) / (everything + self.smooth)).unsqueeze(0)


def soft_skeleton(image: Tensor, n_iterations: int) -> Tensor:
    """Centre lines of a map with values from 0 to 1: what each erosion loses that opening does not bring back.

    Args:
        image: (N, K, *spatial).
        n_iterations: erosions.

    Returns:
        (N, K, *spatial), from 0 to 1.
    """
    skeleton = torch.zeros_like(image)
    for _ in range(n_iterations + 1):
        eroded = soft_erode(image)
        lost = (image - soft_dilate(eroded)).relu()
        skeleton = skeleton + lost * (1 - skeleton)
        image = eroded
    return skeleton


def soft_erode(image: Tensor) -> Tensor:
    """The least value of a pixel and its neighbours along each axis; beyond the border nothing counts."""
    n_axes = image.ndim - 2
    crosses = [[3 if other == axis else 1 for other in range(n_axes)] for axis in range(n_axes)]
    return -reduce(torch.maximum, [_largest(-image, kernel) for kernel in crosses])


def soft_dilate(image: Tensor) -> Tensor:
    """The largest value of a pixel and all its neighbours, corners included."""
    return _largest(image, [3] * (image.ndim - 2))


def _largest(image: Tensor, kernel: list[int]) -> Tensor:
    pool = (F.max_pool1d, F.max_pool2d, F.max_pool3d)[image.ndim - 3]
    return pool(image, kernel, stride=1, padding=[length // 2 for length in kernel])
