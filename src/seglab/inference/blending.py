"""Weighted sums of overlapping windows, one window deep."""

from collections.abc import Sequence
from functools import lru_cache
from typing import Literal

import torch
from torch import Tensor

Blending = Literal["gaussian", "flat"]


class WindowSums:
    """Adds up windows row by row and gives out planes that no later window reaches, divided by their weights.

    Weights are products of one factor per axis, and windows stand on a full grid: so the sum of the weights over a
    pixel is a product as well, and no map of counts is needed.

    Args:
        spatial: size of the image.
        size: size of a window.
        starts: first pixels of the windows, per axis.
        blending: the shape of the weights.
    """

    def __init__(
        self, spatial: Sequence[int], size: tuple[int, ...], starts: Sequence[Sequence[int]], blending: Blending
    ) -> None:
        self.shape, self.size, self.blending = (size[0], *spatial[1:]), size, blending
        self.norms = [
            _summed_weights(*along, blending) for along in zip(spatial, size, (tuple(s) for s in starts), strict=True)
        ]
        self.sums = torch.empty(0)  # (K, window depth, *rest); the first logits bring K and the device

    def add(self, corner: Sequence[int], logits: Tensor) -> None:
        """Add one window of the current row.

        Args:
            corner: first pixel along every axis but the first.
            logits: (K, *window).
        """
        if self.sums.numel() == 0:
            self.sums = torch.zeros(len(logits), *self.shape, device=logits.device)
        weight = _window_weights(self.size, self.blending, self.sums.device)
        part(self.sums, corner, self.size).addcmul_(logits.to(self.sums), weight)

    def release(self, start: int, end: int) -> Tensor:
        """Give out planes `start` to `end`, where `start` is the first of the current row and `end` of the next.

        Returns:
            (K, end - start, *rest) float32.
        """
        done = end - start
        norm = _outer([self.norms[0][start:end], *self.norms[1:]]).to(self.sums.device)
        planes = self.sums[:, :done] / norm
        self.sums = torch.cat([self.sums[:, done:], torch.zeros_like(self.sums[:, :done])], dim=1)
        return planes


def part(image: Tensor, corner: Sequence[int], size: Sequence[int]) -> Tensor:
    """View of one window of a row.

    Args:
        image: (channels, depth, *rest), as deep as the window.
        corner: first pixel along every axis but the first.
        size: size of the window.

    Returns:
        (channels, *size), sharing memory with `image`.
    """
    view = image
    for axis, (start, length) in enumerate(zip(corner, size[1:], strict=True), start=2):
        view = view.narrow(axis, start, length)
    return view


@lru_cache(maxsize=4)
def _window_weights(size: tuple[int, ...], blending: Blending, device: torch.device) -> Tensor:
    return _outer([_axis_weights(length, blending) for length in size]).to(device)


def _axis_weights(length: int, blending: Blending) -> Tensor:
    if blending == "flat":
        return torch.ones(length)
    offset = torch.arange(length) - (length - 1) / 2
    return torch.exp(-0.5 * (offset / (length / 8)) ** 2)  # a window ends at 4 sigma, so never 0


def _summed_weights(length: int, size: int, starts: Sequence[int], blending: Blending) -> Tensor:
    total = torch.zeros(length)
    for start in starts:
        total[start : start + size] += _axis_weights(size, blending)
    return total


def _outer(factors: Sequence[Tensor]) -> Tensor:
    product = factors[0]
    for factor in factors[1:]:
        product = product.unsqueeze(-1) * factor
    return product
