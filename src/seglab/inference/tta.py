"""Test-time augmentation: the mean of the probabilities of several views of an image."""

from collections.abc import Iterator, Sequence
from itertools import combinations, product

import torch
from torch import Tensor
from torch.nn import functional as F

from seglab.errors import ConfigError
from seglab.inference.network import Predict, centre

LINEAR = {1: "linear", 2: "bilinear", 3: "trilinear"}


class Views:
    """Flips, rotations by 90 degrees and scales of each window; their probabilities are brought back and averaged.

    Flips go along every axis and all combinations of them; rotations turn the last two axes; together they are the 8
    symmetries of a square (16 of a cuboid with a square base). Scales enlarge or shrink the window along all axes,
    linearly interpolated there and back. All are combined with all: flips and rotations at three scales are 24 views.

    Args:
        flips: 4 views in 2-D, 8 in 3-D.
        rotations: 4 views, or twice as many as with flips alone.
        scales: factors; [1.0] for none.

    Raises:
        ConfigError: no scale, or one that is not between 0.25 and 4.
    """

    def __init__(self, flips: bool = False, rotations: bool = False, scales: Sequence[float] = (1.0,)) -> None:
        if not scales or not all(0.25 <= scale <= 4 for scale in scales):
            raise ConfigError(
                "images cannot be predicted at these scales",
                given=f"inference.tta.scales={list(scales)}",
                allowed="one or more factors from 0.25 to 4",
                fix="set inference.tta.scales=[1.0], or [0.75,1.0,1.25]",
            )
        self.flips, self.rotations, self.scales = flips, rotations, tuple(map(float, scales))

    @property
    def is_plain(self) -> bool:
        """Whether the window itself is the only view."""
        return not self.flips and not self.rotations and self.scales == (1.0,)

    def __call__(self, predict: Predict, any_size: Predict) -> Predict:
        """A network whose softmax is the mean of the softmaxes of all views.

        Args:
            predict: logits of the centre of a batch.
            any_size: logits of a batch of any size, as large as it is; for scales.

        Returns:
            `predict` itself where there is one view.
        """
        if self.is_plain:
            return predict

        def averaged(batch: Tensor) -> Tensor:
            """Mean of the probabilities over the views."""
            total = torch.zeros(0)
            for n, probs in enumerate(self._views(batch, predict, any_size), start=1):
                total = probs if n == 1 else total.add_(centre(probs, len(batch), total.shape[2:]))
            return total.div_(n).clamp_min_(torch.finfo(total.dtype).tiny).log_()

        return averaged

    def _views(self, batch: Tensor, predict: Predict, any_size: Predict) -> Iterator[Tensor]:
        """Probabilities of each view, turned back; the smallest of them first."""
        for scale, (axes, turns) in product(sorted(self.scales, key=lambda scale: scale != 1), self._symmetries(batch)):
            view = torch.rot90(batch.flip(axes), turns, (-2, -1))
            logits = predict(view) if scale == 1 else _scaled(view, scale, any_size)
            yield torch.rot90(logits, -turns, (-2, -1)).flip(axes).float().softmax(dim=1)

    def _symmetries(self, batch: Tensor) -> list[tuple[tuple[int, ...], int]]:
        """Axes to flip and quarter turns, each symmetry once: half a turn is a flip along two axes."""
        spatial = range(2, batch.ndim)
        flips = [axes for n in range(len(spatial) + 1) for axes in combinations(spatial, n)] if self.flips else [()]
        turns = range(2 if self.flips else 4) if self.rotations else range(1)
        return list(product(flips, turns))


def _scaled(view: Tensor, scale: float, any_size: Predict) -> Tensor:
    size = view.shape[2:]
    resize = LINEAR[len(size)]
    scaled = F.interpolate(view, [max(1, round(length * scale)) for length in size], mode=resize, align_corners=False)
    return F.interpolate(any_size(scaled).float(), size, mode=resize, align_corners=False)
