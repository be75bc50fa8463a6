"""Labels of a whole case, from slices or from the volume, given out as they are finished."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol, TypeVar

import torch
from numpy.typing import NDArray
from torch import Tensor

from seglab.errors import ConfigError, ShapeError
from seglab.inference.labels import labels_from_logits
from seglab.inference.network import Context, Predict, WindowNetwork, centre
from seglab.inference.windows import SlidingWindow, window_starts

Array = TypeVar("Array", Tensor, NDArray[Any])
Span = tuple[int, int]
"""First and the one behind the last."""


class CaseImage(Protocol):
    """An image of which parts can be read."""

    @property
    def shape(self) -> Sequence[int]:
        """(C, D, H, W); D is 1 for a photo or raster."""

    def read(self, depth: Span, height: Span) -> Tensor:
        """(C, d, h, W) of any number type."""


@dataclass(frozen=True)
class TensorCase:
    """A case in memory: (C, D, H, W)."""

    image: Tensor

    @property
    def shape(self) -> Sequence[int]:
        """(C, D, H, W)."""
        return self.image.shape

    def read(self, depth: Span, height: Span) -> Tensor:
        """A view of (C, d, h, W)."""
        return self.image[:, slice(*depth), slice(*height)]


@dataclass(frozen=True)
class Part:
    """What is known of a part of a case.

    Args:
        depth: its slices.
        height: its rows, all columns.
        labels: (d, h, W) uint8.
        probs: (K, d, h, W) float16, where asked for.
        entropy: (d, h, W) float16 from 0 (certain) to 1 (all classes alike), where asked for.
    """

    depth: Span
    height: Span
    labels: Tensor
    probs: Tensor | None = None
    entropy: Tensor | None = None


@dataclass(frozen=True)
class CasePredictor:
    """How a network labels whole cases.

    A photo or raster is a case of depth 1. In two dimensions every slice is predicted with its neighbours as channels
    (`stack_slices`), in batches where one window covers a slice.

    Args:
        predict: the network on a batch of windows, (B, C * n_slices, *window) -> (B, K, *window).
        spatial_dims: 2 for slices, 3 for volumes.
        n_slices: neighbouring slices given as channels, odd; 1 in three dimensions.
        sliding_window: how larger images are cut and blended.
        window: size of a window, `spatial_dims` long, where `sliding_window` has none of its own.

    Raises:
        ConfigError: n_slices is even, or given in three dimensions.
    """

    predict: Predict | WindowNetwork
    spatial_dims: Literal[2, 3]
    n_slices: int
    sliding_window: SlidingWindow
    window: Sequence[int]

    def __post_init__(self) -> None:
        if self.spatial_dims == 3 and self.n_slices != 1:
            raise ConfigError(
                "a volume has no neighbouring slices as channels",
                given=f"spatial_dims=3, n_slices={self.n_slices}",
                allowed="n_slices=1 in three dimensions",
                fix="set data.n_slices=1 or data.dims=2",
            )

    def labels(self, image: Tensor) -> Tensor:
        """Labels of a case in memory: (C, D, H, W) -> (D, H, W) uint8 on its device.

        Raises:
            ShapeError: the image has no four axes, or the network returned less than its windows.
            ConfigError: the window does not fit the dimensions.
        """
        if image.ndim != 4:
            raise ShapeError(
                "a case cannot be predicted from this image",
                given=f"a tensor of shape {tuple(image.shape)}",
                allowed="(C, D, H, W), with D=1 for a photo or raster",
                fix="pass one case without a batch axis",
            )
        labels = torch.empty(image.shape[1:], dtype=torch.uint8, device=image.device)
        for part in self.parts(TensorCase(image)):
            labels[slice(*part.depth), slice(*part.height)] = part.labels
        return labels

    def parts(self, image: CaseImage, *, probs: bool = False, entropy: bool = False) -> Iterator[Part]:
        """What is found in a case, part by part without gaps or repeats: memory is bounded by windows, not by the case.

        Args:
            image: read as it is needed.
            probs: give probabilities too.
            entropy: give the entropy of the probabilities too.

        Raises:
            ShapeError: the network returned less than its windows.
            ConfigError: the window does not fit the dimensions.
        """
        for depth, rows, logits in self._logits(image, weighted=not (probs or entropy)):
            labels = labels_from_logits(logits[None])[0]
            shares = logits.softmax(dim=0) if probs or entropy else None
            yield Part(
                depth,
                rows,
                labels,
                probs=shares.half() if shares is not None and probs else None,
                entropy=entropy_of(shares).half() if shares is not None and entropy else None,
            )

    def _logits(self, image: CaseImage, *, weighted: bool) -> Iterator[tuple[Span, Span, Tensor]]:
        """Slices, rows and (K, d, h, W) of each part."""
        _, n_slices, height, width = image.shape
        if self.spatial_dims == 3:
            for first, slab in self._slabs(_Slices(image), weighted):
                yield (first, first + slab.shape[1]), (0, height), slab
        elif self.sliding_window.window_for((height, width), self.window) == (height, width):
            yield from self._whole_slices(image)
        else:
            for index in range(n_slices):
                for first, slab in self._slabs(_Rows(image, index, self.n_slices), weighted):
                    yield (index, index + 1), (first, first + slab.shape[1]), slab[:, None]

    def _slabs(self, image: "_Slices | _Rows", weighted: bool) -> Iterator[tuple[int, Tensor]]:
        first = 0
        for slab in self.sliding_window.slabs(image, self.predict, window=self.window, weighted=weighted):
            yield first, slab
            first += slab.shape[1]

    @torch.no_grad()
    def _whole_slices(self, image: CaseImage) -> Iterator[tuple[Span, Span, Tensor]]:
        """Batches of one size, so that a compiled network is compiled once: the last one reaches back."""
        _, depth, height, width = image.shape
        network = WindowNetwork.of(self.predict)
        compute, size = self.sliding_window.batches(network), (height, width)
        context = Context.around(size, network.input_size(size), size)
        n = min(self.sliding_window.batch_size, depth)
        for start in window_starts(depth, n, n):
            rows = [_Rows(image, index, self.n_slices) for index in range(start, start + n)]
            batch = torch.stack([context.row(each, 0, height) for each in rows])
            logits = centre(compute(batch), n, size).float()  # (B, K, H, W)
            yield (start, start + n), (0, height), logits.transpose(0, 1)


def entropy_of(probs: Tensor) -> Tensor:
    """Entropy of probabilities (K, ...) as a share of the largest there can be: 0 certain, 1 all classes alike."""
    classes = max(len(probs), 2)
    return -torch.xlogy(probs, probs).sum(dim=0).div_(math.log(classes)).clamp_(-1, 0)


@dataclass(frozen=True)
class _Slices:
    """A volume read along its depth."""

    image: CaseImage

    @property
    def shape(self) -> Sequence[int]:
        """(C, D, H, W) of the volume."""
        return self.image.shape

    def read(self, start: int, end: int) -> Tensor:
        """Slices from start to end: (C, n, H, W)."""
        return self.image.read((start, end), (0, self.image.shape[2]))


@dataclass(frozen=True)
class _Rows:
    """A slice and its neighbours, read along its height."""

    image: CaseImage
    index: int
    n_slices: int

    @property
    def shape(self) -> Sequence[int]:
        """(C * n_slices, H, W)."""
        channels, _, *spatial = self.image.shape
        return channels * self.n_slices, *spatial

    def read(self, start: int, end: int) -> Tensor:
        """Rows from start to end of the slice and its neighbours, as channels."""
        indices = slice_indices(self.index, self.image.shape[1], self.n_slices)
        slices = [self.image.read((index, index + 1), (start, end))[:, 0] for index in indices]  # (C, h, W) each
        return slices[0] if len(slices) == 1 else torch.cat(slices)


def stack_slices(image: Array, index: int, n_slices: int) -> Array:
    """A slice and its neighbours as channels, slice by slice: all channels of the first, then of the next.

    Beyond the ends of the volume the last slice is repeated.

    Args:
        image: (C, D, H, W), a tensor or an array.
        index: the slice in the middle.
        n_slices: how many, odd.

    Returns:
        (C * n_slices, H, W); a view where it is one slice.

    Raises:
        ConfigError: n_slices is even or below 1.
    """
    if n_slices == 1:
        return image[:, index]
    chosen = image[:, slice_indices(index, image.shape[1], n_slices)]  # (C, n, H, W)
    stacked: Array = chosen.swapaxes(0, 1).reshape(-1, *image.shape[2:])  # (C * n, H, W)
    return stacked


def slice_indices(index: int, depth: int, n_slices: int) -> list[int]:
    """Which slices `stack_slices` takes, the ends repeated.

    Args:
        index: the slice in the middle.
        depth: number of slices of the volume.
        n_slices: how many, odd.

    Raises:
        ConfigError: n_slices is even or below 1.
    """
    if n_slices < 1 or n_slices % 2 == 0:
        raise ConfigError(
            "a slice and its neighbours cannot be that many",
            given=f"n_slices={n_slices}",
            allowed="odd numbers from 1 up",
            fix="set data.n_slices=1 or data.n_slices=3",
        )
    half = n_slices // 2
    return [min(max(near, 0), depth - 1) for near in range(index - half, index + half + 1)]
