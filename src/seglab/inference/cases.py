"""Labels of a whole case, from slices or from the volume; logits of all slices are never held at once."""

from collections.abc import Iterator, Sequence
from typing import Any, Literal, TypeVar

import torch
from numpy.typing import NDArray
from torch import Tensor

from seglab.errors import ConfigError, ShapeError
from seglab.inference.labels import labels_from_logits
from seglab.inference.windows import Predict, SlidingWindow, checked_logits, window_starts

Array = TypeVar("Array", Tensor, NDArray[Any])


@torch.no_grad()
def predict_case(
    image: Tensor,
    predict: Predict,
    *,
    spatial_dims: Literal[2, 3],
    n_slices: int,
    sliding_window: SlidingWindow,
    window: Sequence[int],
) -> Tensor:
    """Labels of a case in the grid of its image.

    A photo or raster is a case of depth 1. In two dimensions every slice is predicted with its neighbours as channels
    (`stack_slices`), in batches where one window covers a slice.

    Args:
        image: (C, D, H, W) float, normalised as in training.
        predict: the network on a batch, (B, C * n_slices, *window) -> (B, K, *window).
        spatial_dims: 2 for slices, 3 for volumes.
        n_slices: neighbouring slices given as channels, odd; 1 in three dimensions.
        sliding_window: how larger images are cut and blended.
        window: size of a window, `spatial_dims` long, where `sliding_window` has none of its own.

    Returns:
        (D, H, W) uint8 on the device of `image`.

    Raises:
        ShapeError: the image has no four axes, or `predict` returned another size than it was given.
        ConfigError: the window does not fit the dimensions, or n_slices is even or given in three dimensions.
    """
    _check(image, spatial_dims, n_slices)
    labels = torch.empty(image.shape[1:], dtype=torch.uint8, device=image.device)
    if spatial_dims == 3:
        _fill(labels, image, predict, sliding_window, window)
    elif sliding_window.window_for(image.shape[2:], window) == tuple(image.shape[2:]):
        for chosen, batch in _batches(image, n_slices, sliding_window.batch_size):
            labels[chosen] = labels_from_logits(checked_logits(predict(batch), batch))
    else:
        for index, plane in enumerate(labels):
            _fill(plane, stack_slices(image, index, n_slices), predict, sliding_window, window)
    return labels


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


def _fill(
    labels: Tensor, image: Tensor, predict: Predict, sliding_window: SlidingWindow, window: Sequence[int]
) -> None:
    first = 0
    for slab in sliding_window.slabs(image, predict, window=window):
        labels[first : first + slab.shape[1]] = labels_from_logits(slab[None])[0]
        first += slab.shape[1]


def _batches(image: Tensor, n_slices: int, batch_size: int) -> Iterator[tuple[slice, Tensor]]:
    """Batches of one size, so that a compiled network is compiled once: the last one reaches back."""
    depth = image.shape[1]
    size = min(batch_size, depth)
    for start in window_starts(depth, size, size):
        chosen = range(start, start + size)
        yield slice(start, start + size), torch.stack([stack_slices(image, index, n_slices) for index in chosen])


def _check(image: Tensor, spatial_dims: int, n_slices: int) -> None:
    if image.ndim != 4:
        raise ShapeError(
            "a case cannot be predicted from this image",
            given=f"a tensor of shape {tuple(image.shape)}",
            allowed="(C, D, H, W), with D=1 for a photo or raster",
            fix="pass one case without a batch axis",
        )
    if spatial_dims == 3 and n_slices != 1:
        raise ConfigError(
            "a volume has no neighbouring slices as channels",
            given=f"spatial_dims=3, n_slices={n_slices}",
            allowed="n_slices=1 in three dimensions",
            fix="set data.n_slices=1 or data.dims=2",
        )
