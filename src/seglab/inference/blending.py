"""Weighted sums of overlapping windows in a ring of planes, one window deep."""

from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Literal

import torch
from torch import Tensor

Blending = Literal["gaussian", "flat"]

CHUNK = 1 << 18
"""Pixels given out at once: what is done to them stays in the processor's cache."""


class WindowSums:
    """Adds up windows and gives out planes that no later window reaches.

    Plane p of the image lies at p modulo the window's depth: nothing is moved when windows advance. Weights are
    products of one factor per axis, and windows stand on a full grid: so the sum of the weights over a pixel is a
    product as well, and no map of counts is needed. All classes share it, so labels need no division at all.

    Sums lie in memory as the network's first logits do, classes first or last, as turning every window round would cost
    more than adding it; planes are turned once, when they are given out.

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
        self.sums = torch.empty(0)  # (K, window depth, *rest); the first logits bring K, the device and the layout
        self.n_last = 0  # K where the classes lie last in memory

    def add(self, corner: Sequence[int], logits: Tensor) -> None:
        """Add one window.

        Args:
            corner: its first pixel along every axis.
            logits: (K, *window).
        """
        if self.sums.numel() == 0:
            self._begin(logits)
        target, values = part(self.sums, corner[1:], self.size), logits.to(self.sums)
        values = values.movedim(0, -1).contiguous().movedim(-1, 0) if self.n_last else values.contiguous()
        weight = _window_weights(self.size, self.blending, self.sums.device, self.n_last)
        depth, first = self.size[0], corner[0] % self.size[0]
        target[:, first:].addcmul_(values[:, : depth - first], weight[:, : depth - first])
        if first:
            target[:, :first].addcmul_(values[:, depth - first :], weight[:, depth - first :])

    def _begin(self, logits: Tensor) -> None:
        n_classes = len(logits)
        self.n_last = n_classes if n_classes > 1 and logits.stride(0) == 1 else 0
        if self.n_last:
            self.sums = torch.zeros(*self.shape, n_classes, device=logits.device).movedim(-1, 0)
        else:
            self.sums = torch.zeros(n_classes, *self.shape, device=logits.device)

    def release(self, start: int, end: int, *, weighted: bool) -> Iterator[Tensor]:
        """Give out planes `start` to `end`, where `start` is the first of the current row and `end` of the next.

        Args:
            start: first plane.
            end: the plane behind the last.
            weighted: leave the logits as sums of weights, of which the largest is the same.

        Yields:
            (K, n_planes, *rest) float32 of few planes each; weighted sums are valid until the next are asked for.
        """
        step = max(1, CHUNK // max(self.sums[0, 0].numel(), 1))
        while start < end:
            first = start % self.size[0]
            n = min(step, end - start, self.size[0] - first)
            planes = self.sums[:, first : first + n]
            turned = planes.contiguous() if self.n_last else planes
            yield turned if weighted else turned / self._norm(start, start + n)
            planes.zero_()
            start += n

    def _norm(self, start: int, end: int) -> Tensor:
        return _outer([self.norms[0][start:end], *self.norms[1:]]).to(self.sums.device)


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
def _window_weights(size: tuple[int, ...], blending: Blending, device: torch.device, n_last: int) -> Tensor:
    """(1, *window), or (K, *window) with the classes last: repeated for each, so that memory is read in one line."""
    weights = _outer([_axis_weights(length, blending) for length in size]).to(device)
    return weights[..., None].repeat_interleave(n_last, dim=-1).movedim(-1, 0) if n_last else weights[None]


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
