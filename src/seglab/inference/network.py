"""What sliding windows ask of a network, and how an image is enlarged to what it takes."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from seglab.errors import ShapeError

Predict = Callable[[Tensor], Tensor]
"""(B, C, *input) -> logits (B, K, *output) of the input's centre, on any device."""


class ImageRows(Protocol):
    """An image that is read in parts along its first spatial axis."""

    @property
    def shape(self) -> Sequence[int]:
        """(C, *spatial)."""

    def read(self, start: int, end: int) -> Tensor:
        """(C, end - start, *rest) of any number type."""


def unchanged(batch: Tensor) -> Tensor:
    """The windows as they are."""
    return batch


@dataclass(frozen=True)
class WindowNetwork:
    """A network on windows.

    Args:
        logits: of the centre of windows whose size is one of `input_size`.
        any_size: logits of windows of any size, as large as they are; None: `logits` does that.
        input_size: the size that the network needs to cover a window; what is missing is the image around the window,
            mirrored beyond the image's border (the overlap-tile strategy of Ronneberger, Fischer, Brox 2015).
        prepare: from stored values to network input, on the network's device.
    """

    logits: Predict
    any_size: Predict | None = None
    input_size: Callable[[Sequence[int]], Sequence[int]] = tuple
    prepare: Predict = unchanged

    @classmethod
    def of(cls, predict: "Predict | WindowNetwork") -> "WindowNetwork":
        """A plain function as a network that takes windows of any size."""
        return predict if isinstance(predict, WindowNetwork) else cls(predict)


@dataclass(frozen=True)
class Context:
    """How far windows of one size reach beyond themselves, and what lies beyond the image.

    Args:
        margins: pixels before and after the window, per axis.
        mirrors: whether the image is mirrored at its border; one that is too short for that repeats its last pixel.
    """

    margins: tuple[tuple[int, int], ...]
    mirrors: bool

    @classmethod
    def around(cls, size: Sequence[int], wanted: Sequence[int], spatial: Sequence[int]) -> "Context":
        """The context that makes windows of `size` as large as `wanted` in an image of `spatial`."""
        missing = [large - length for length, large in zip(size, wanted, strict=True)]
        margins = tuple((part // 2, part - part // 2) for part in missing)
        return cls(margins, all(after < length for (_, after), length in zip(margins, spatial, strict=True)))

    def row(self, image: ImageRows, start: int, depth: int) -> Tensor:
        """All windows that start at one plane, with their context.

        Args:
            image: (C, *spatial).
            start: the plane.
            depth: length of a window along the first axis.

        Returns:
            (C, depth and context, *rest and context).
        """
        spatial = image.shape[1:]
        planes = self._pixels(0, start, start + depth, spatial[0])
        if planes is None:
            row = image.read(start, start + depth)
        else:
            first = int(planes.min())
            row = image.read(first, int(planes.max()) + 1)[:, planes - first]
        for axis, length in enumerate(spatial[1:], start=1):
            pixels = self._pixels(axis, 0, length, length)
            row = row if pixels is None else row.index_select(axis + 1, pixels.to(row.device))
        return row

    def _pixels(self, axis: int, start: int, end: int, length: int) -> Tensor | None:
        """Which pixels of an axis of `length` stand for `start` to `end` and their context; None: just these."""
        before, after = self.margins[axis]
        if before == after == 0:
            return None
        place = torch.arange(start - before, end + after)
        if self.mirrors:
            place = (length - 1) - ((length - 1) - place.abs()).abs()
        return place.clamp(0, length - 1)


def centre(logits: Tensor, n_windows: int, size: Sequence[int]) -> Tensor:
    """The centre of logits (B, K, *output), as large as the windows.

    Raises:
        ShapeError: another number of images, or less than the windows.
    """
    lengths = logits.shape[2:]
    if len(logits) != n_windows or len(lengths) != len(size) or any(a < b for a, b in zip(lengths, size, strict=True)):
        raise ShapeError(
            "logits do not cover their windows",
            given=f"logits {tuple(logits.shape)} for {n_windows} windows of {tuple(size)}",
            allowed="(B, K, *window), as long as the window along every axis or longer",
            fix="pad inside predict to net.input_size_for(window) and crop the logits",
        )
    for axis, length in enumerate(size, start=2):
        logits = logits.narrow(axis, (logits.shape[axis] - length) // 2, length)
    return logits
