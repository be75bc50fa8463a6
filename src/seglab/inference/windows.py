"""Sliding windows: logits of an image that is larger than what the network sees at once."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product

import torch
from torch import Tensor

from seglab.errors import ConfigError
from seglab.inference.blending import Blending, WindowSums, part
from seglab.inference.constant import once_for_constant
from seglab.inference.network import Context, ImageRows, Predict, WindowNetwork, centre
from seglab.inference.tta import Views


@dataclass(frozen=True)
class TensorRows:
    """An image in memory: (C, *spatial)."""

    image: Tensor

    @property
    def shape(self) -> Sequence[int]:
        """(C, *spatial)."""
        return self.image.shape

    def read(self, start: int, end: int) -> Tensor:
        """A view of (C, end - start, *rest)."""
        return self.image[:, start:end]


class SlidingWindow:
    """Logits of a whole image from overlapping windows, blended by weights that fall off towards a window's edge.

    Along an axis that a window covers, the window is as long as the image; where one window covers all, its logits are
    passed on as they are. Elsewhere windows stand `window * (1 - overlap)` pixels apart and the last one ends with the
    image. A network that needs more than the window gets the image around it, mirrored beyond the image's border.
    Windows advance along the first axis last, and planes that no later window reaches are given out at once: memory for
    logits is one window deep, however long the image.

    Args:
        window: size of a window in pixels, per axis; None leaves it to the caller.
        overlap: share of a window that its neighbour repeats, in [0, 1).
        batch_size: windows per forward pass; a batch holds windows of one position along the first axis.
        blending: "gaussian" with sigma = window / 8, or "flat".
        skip_constant: windows that hold one value only after normalisation, such as nodata or the air around a body,
            are predicted once for each value.
        tta: views of each window whose probabilities are averaged; None for the window alone.

    Raises:
        ConfigError: an argument out of its range.
    """

    def __init__(
        self,
        window: Sequence[int] | None = None,
        overlap: float = 0.5,
        batch_size: int = 4,
        blending: Blending = "gaussian",
        skip_constant: bool = False,
        tta: Views | None = None,
    ) -> None:
        _require(0 <= overlap < 1, "overlap", overlap, "numbers from 0 up to below 1", "0.5")
        _require(batch_size >= 1, "batch_size", batch_size, "integers from 1 up", "1")
        _require(blending in ("gaussian", "flat"), "blending", blending, "gaussian or flat", "gaussian")
        if window is not None:
            _check_window(window, len(window))
        self.window = None if window is None else tuple(window)
        self.overlap, self.batch_size, self.skip_constant = overlap, batch_size, skip_constant
        self.blending: Blending = blending
        self.tta = Views() if tta is None else tta

    def __call__(self, image: Tensor, predict: Predict | WindowNetwork, *, window: Sequence[int]) -> Tensor:
        """Logits of the whole image in one tensor.

        Args:
            image: (C, *spatial).
            predict: the network on a batch of windows.
            window: size of a window where the constructor was given none.

        Returns:
            (K, *spatial) float32 on the device of `image`.

        Raises:
            ConfigError: the window has another number of axes than the image, or no pixel.
            ShapeError: `predict` returned less than its windows.
        """
        slabs = [slab.to(image.device) for slab in self.slabs(TensorRows(image), predict, window=window)]
        return slabs[0] if len(slabs) == 1 else torch.cat(slabs, dim=1)

    @torch.no_grad()
    def slabs(
        self, image: ImageRows, predict: Predict | WindowNetwork, *, window: Sequence[int], weighted: bool = False
    ) -> Iterator[Tensor]:
        """The same logits in pieces along the first spatial axis, in order, without gaps or repeats.

        Args:
            image: (C, *spatial), read a row of windows at a time.
            predict: the network on a batch of windows.
            window: size of a window where the constructor was given none.
            weighted: for labels: logits may be multiples of what they are, the same for all classes, and a slab is
                overwritten when the next one is asked for.

        Yields:
            Logits (K, n_planes, *rest) float32, on the device of what `predict` returns.

        Raises:
            ConfigError: the window has another number of axes than the image, or no pixel.
            ShapeError: `predict` returned less than its windows.
        """
        spatial = tuple(image.shape[1:])
        size = self.window_for(spatial, window)
        network = WindowNetwork.of(predict)
        context = Context.around(size, network.input_size(size), spatial)
        compute = self.batches(network)
        starts = [window_starts(n, w, self._step(w)) for n, w in zip(spatial, size, strict=True)]
        if size == spatial:
            batch = context.row(image, 0, size[0])[None]
            yield centre(compute(batch), 1, size)[0].float()
            return
        sums = WindowSums(spatial, size, starts, self.blending)
        for start, end in zip(starts[0], [*starts[0][1:], spatial[0]], strict=True):
            row = context.row(image, start, size[0])
            for corners in self._in_batches(starts[1:]):
                _add(sums, row, [(start, *corner) for corner in corners], compute, context)
            yield from sums.release(start, end, weighted=weighted)

    def batches(self, network: WindowNetwork) -> Predict:
        """From stored windows with their context to logits: prepared, in all views, constant ones once."""
        compute = self.tta(network.logits, network.any_size or network.logits)
        compute = once_for_constant(compute) if self.skip_constant else compute
        return lambda batch: compute(network.prepare(batch))

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

    def _in_batches(self, starts: Sequence[list[int]]) -> Iterator[list[tuple[int, ...]]]:
        corners = list(product(*starts))
        for begin in range(0, len(corners), self.batch_size):
            yield corners[begin : begin + self.batch_size]


def window_starts(length: int, size: int, step: int) -> list[int]:
    """First pixels of windows of `size` every `step` pixels; the last window ends with the axis of `length`."""
    return [*range(0, length - size, step), length - size]


def _add(sums: WindowSums, row: Tensor, corners: Sequence[tuple[int, ...]], compute: Predict, context: Context) -> None:
    """Predict a batch of windows and add it up; on return nothing of it is held any more."""
    large = [length + sum(margin) for length, margin in zip(sums.size, context.margins, strict=True)]
    logits = compute(torch.stack([part(row, corner[1:], large) for corner in corners]))  # (B, C, *input)
    for corner, window in zip(corners, centre(logits, len(corners), sums.size), strict=True):
        sums.add(corner, window)


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
