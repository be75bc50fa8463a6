"""Whether probabilities mean what they say: reliability, expected calibration error, Brier score."""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from seglab.errors import ShapeError
from seglab.spec import IGNORE_INDEX

N_BINS = 15


@dataclass
class Calibration:
    """Sums over pixels that are not ignored, from which every score of calibration follows; sums of cases add up.

    Args:
        bins: (15, 3): for each fifteenth of confidence the pixels, the sum of their confidence and how many are right.
        squares: sum of squared differences between probabilities and truth, over classes and pixels.
    """

    bins: NDArray[np.float64] = field(default_factory=lambda: np.zeros((N_BINS, 3)))
    squares: float = 0.0

    def update(self, probs: NDArray[np.floating], mask: NDArray[np.uint8]) -> None:
        """Add pixels.

        Args:
            probs: (K, *spatial), probabilities of each class.
            mask: (*spatial), class or 255.

        Raises:
            ShapeError: shapes that do not fit.
        """
        if probs.shape[1:] != mask.shape:
            raise ShapeError(
                "probabilities and mask do not fit",
                given=f"probabilities {probs.shape}, mask {mask.shape}",
                allowed="(K, *spatial) and (*spatial)",
                fix="compare probabilities with the mask of the same grid",
            )
        valid = mask != IGNORE_INDEX
        chosen, true = probs[:, valid].astype(np.float32), mask[valid]  # (K, n), (n,)
        confidence = chosen.max(axis=0, initial=0)
        is_right = chosen.argmax(axis=0) == true
        place = np.clip((confidence * N_BINS).astype(np.int64), 0, N_BINS - 1)
        for column, weights in enumerate((None, confidence, is_right)):
            self.bins[:, column] += np.bincount(place, weights, minlength=N_BINS)
        of_true = np.take_along_axis(chosen, true[None].astype(np.int64), axis=0)
        self.squares += float((chosen.astype(np.float64) ** 2).sum() - 2 * of_true.sum(dtype=np.float64)) + len(true)

    def __add__(self, other: "Calibration") -> "Calibration":
        """The sums of both."""
        return Calibration(self.bins + other.bins, self.squares + other.squares)

    @property
    def n(self) -> int:
        """Pixels that were counted."""
        return int(self.bins[:, 0].sum())

    @property
    def ece(self) -> float:
        """Expected calibration error: the mean over pixels of |confidence - share of right ones| of their bin.

        Source: Guo et al. 2017 (https://arxiv.org/abs/1706.04599), with 15 bins of the largest probability. NaN
        without pixels.
        """
        return float(np.abs(self.bins[:, 1] - self.bins[:, 2]).sum() / self.n) if self.n else float("nan")

    @property
    def brier(self) -> float:
        """Brier score: the squared difference between probabilities and truth, summed over classes; NaN without pixels.

        From 0 to 2; with two classes it is twice the squared error of the foreground's probability.
        """
        return self.squares / self.n if self.n else float("nan")

    def curve(self) -> list[tuple[float, float, int]]:
        """For each bin that holds pixels: mean confidence, share of right ones, pixels."""
        return [(sum_conf / n, right / n, int(n)) for n, sum_conf, right in self.bins.tolist() if n]
