"""Sliding windows: logits of an image that is larger than what the network sees at once."""

from collections.abc import Callable, Iterator, Sequence
from itertools import product

import torch
from torch import Tensor

from seglab.errors import ConfigError, ShapeError
from seglab.inference.blending import Blending, WindowSums, part

Predict = Callable[[Tensor], Tensor]
"""(B, C, *window) -> logits (B, K, *window), on any device."""


class SlidingWindow:
    """Logits of a whole image from overlapping windows, blended by weights that fall off towards a window's edge.

    Along an axis that a window covers, the window is as long as the image: nothing is padded, and where one window
    covers all, its logits are passed on as they are. Elsewhere windows stand `window * (1 - overlap)` pixels apart
    and the last one ends with the image. Windows advance along the first axis last, and planes that no later window
    reaches are given out at once: memory for logits is one window deep.

    Args:
        window: size of a window in pixels, per axis; None leaves it to the caller.
        overlap: share of a window that its neighbour repeats, in [0, 1).
        batch_size: windows per forward pass; a batch holds windows of one position along the first axis.
        blending: "gaussian" with sigma = window / 8, or "flat".

    Raises:
        ConfigError: an argument out of its range.
    """

    def __init__(
        self,
        window: Sequence[int] | None = None,
        overlap: float = 0.5,
        batch_size: int = 4,
        blending: Blending = "gaussian",
    ) -> None:
        _require(0 <= overlap < 1, "overlap", overlap, "numbers from 0 up to below 1", "0.5")
        _require(batch_size >= 1, "batch_size", batch_size, "integers from 1 up", "1")
        _require(blending in ("gaussian", "flat"), "blending", blending, "gaussian or flat", "gaussian")
        if window is not None:
            _check_window(window, len(window))
        self.window = None if window is None else tuple(window)
        self.overlap, self.batch_size = overlap, batch_size
        self.blending: Blending = blending

    def __call__(self, image: Tensor, predict: Predict, *, window: Sequence[int]) -> Tensor:
        """Logits of the whole image in one tensor.

        Args:
            image: (C, *spatial).
            predict: the network on a batch of windows.
            window: size of a window where the constructor was given none.

        Returns:
            (K, *spatial) float32 on the device of `image`.

        Raises:
            ConfigError: the window has another number of axes than the image, or no pixel.
            ShapeError: `predict` returned another size than it was given.
        """
        slabs = [slab.to(image.device) for slab in self.slabs(image, predict, window=window)]
        return slabs[0] if len(slabs) == 1 else torch.cat(slabs, dim=1)

    @torch.no_grad()
    def slabs(self, image: Tensor, predict: Predict, *, window: Sequence[int]) -> Iterator[Tensor]:
        """The same logits in pieces along the first spatial axis, in order, without gaps or repeats.

        Args:
            image: (C, *spatial).
            predict: the network on a batch of windows.
            window: size of a window where the constructor was given none.

        Yields:
            Logits (K, n_planes, *rest) float32, on the device of what `predict` returns.

        Raises:
            ConfigError: the window has another number of axes than the image, or no pixel.
            ShapeError: `predict` returned another size than it was given.
        """
        spatial = tuple(image.shape[1:])
        size = self.window_for(spatial, window)
        starts = [window_starts(n, w, self._step(w)) for n, w in zip(spatial, size, strict=True)]
        if size == spatial:
            yield checked_logits(predict(image[None]), image[None])[0].float()
            return
        sums = WindowSums(spatial, size, starts, self.blending)
        for start, end in zip(starts[0], [*starts[0][1:], spatial[0]], strict=True):
            row = image[:, start : start + size[0]]
            for corner, logits in self._predict_row(row, predict, size, starts[1:]):
                sums.add(corner, logits)
            yield sums.release(start, end)

    def window_for(self, spatial: Sequence[int], window: Sequence[int]) -> tuple[int, ...]:
        """Size of the windows on an image: the constructor's or the given one, at most the image's.

        Args:
            spatial: size of the image.
            window: size of a window where the constructor was given none.

        Raises:
            ConfigError: the window has another number of axes than the image, or no pixel.
        """
        wanted = window if self.window is None else self.window
        _check_window(wanted, len(spatial))
        return tuple(min(pair) for pair in zip(spatial, wanted, strict=True))

    def _step(self, length: int) -> int:
        return max(1, int(length * (1 - self.overlap) + 1e-6))  # 100 * (1 - 0.9) is a little less than 10

    def _predict_row(
        self, row: Tensor, predict: Predict, size: tuple[int, ...], starts: Sequence[list[int]]
    ) -> Iterator[tuple[tuple[int, ...], Tensor]]:
        corners = list(product(*starts))
        for begin in range(0, len(corners), self.batch_size):
            chosen = corners[begin : begin + self.batch_size]
            batch = torch.stack([part(row, corner, size) for corner in chosen])  # (B, C, *window)
            yield from zip(chosen, checked_logits(predict(batch), batch), strict=True)


def window_starts(length: int, size: int, step: int) -> list[int]:
    """First pixels of windows of `size` every `step` pixels; the last window ends with the axis of `length`."""
    return [*range(0, length - size, step), length - size]


def checked_logits(logits: Tensor, batch: Tensor) -> Tensor:
    """The logits as they are, where they cover their batch (B, C, *window).

    Raises:
        ShapeError: another number of images or another spatial size.
    """
    if logits.shape[:1] + logits.shape[2:] != batch.shape[:1] + batch.shape[2:]:
        raise ShapeError(
            "logits do not cover their windows",
            given=f"logits {tuple(logits.shape)} for windows {tuple(batch.shape)}",
            allowed="(B, K, *window), as long as the window along every axis",
            fix="pad inside predict to net.input_size_for(window) and crop the logits",
        )
    return logits


def _check_window(window: Sequence[int], n_axes: int) -> None:
    _require(
        len(window) == n_axes and min(window, default=0) >= 1,
        "window",
        f"[{','.join(map(str, window))}]",
        f"{n_axes or 2} sizes from 1 up, one for each axis of the image",
        f"[{','.join(['64'] * (n_axes or 2))}]",
    )


def _require(is_fine: bool, argument: str, value: object, allowed: str, example: str) -> None:
    if not is_fine:
        raise ConfigError(
            f"a sliding window cannot work with this {argument}",
            given=f"{argument}={value}",
            allowed=allowed,
            fix=f"set inference.{argument}={example}",
        )
