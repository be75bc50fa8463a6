"""What every candidate of a postprocessing would do to the Dice of every case, in one pass over the cases."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from lightning import LightningModule, Trainer
from numpy.typing import NDArray

from seglab.callbacks.slices import EachSlice
from seglab.components import Mask, components, fill_holes
from seglab.inference.postprocess import Steps
from seglab.spec import IGNORE_INDEX, DataSpec

MIN_SIZES = (10.0, 30.0, 100.0, 300.0, 1000.0, 3000.0)
"""mm3 for volumes, pixels elsewhere."""

CANDIDATES: tuple[Steps, ...] = tuple(
    Steps(fill_holes=fill, min_size=size, largest=largest)
    for fill in (False, True)
    for size, largest in ((0.0, False), *((size, False) for size in MIN_SIZES), (0.0, True))
)
"""The first one does nothing."""

THRESHOLDS = tuple(round(0.1 + 0.05 * step, 2) for step in range(17))
N_BINS = 2000

STEPS, THRESHOLD = "_steps", "_thresholds"
"""Columns of a row: by class the Dice of each candidate; the Dice at each threshold. To be taken out."""


class Candidates(EachSlice):
    """Writes into each row of the test what each candidate would score; a case that is rightly empty scores 1.

    Args:
        spec: of the data; thresholds are for one class beside background.
    """

    def __init__(self, spec: DataSpec) -> None:
        super().__init__()
        self.spec = spec
        self.has_threshold = spec.num_classes == 2 and spec.has_background
        self._counts = np.zeros((2, N_BINS), np.int64)

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Look at each part of a case, where a threshold is asked for."""
        if self.has_threshold:
            super().on_test_start(trainer, pl_module)

    def begin(self) -> None:
        """Count from zero."""
        self._counts = np.zeros((2, N_BINS), np.int64)

    def see(self, probs: NDArray[np.float16], mask: NDArray[np.uint8]) -> None:
        """Count pixels by truth and probability."""
        place = np.clip((probs[1].astype(np.float32) * N_BINS).astype(np.int64), 0, N_BINS - 1)
        for true in (0, 1):
            self._counts[true] += np.bincount(place[mask == true], minlength=N_BINS)

    def on_test_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Complete the row of the case."""
        row: dict[str, Any] = pl_module.case_rows[-1]  # type: ignore[assignment, index]  # of the case just scored
        pixel = float(np.prod(batch["spacing"])) if self.spec.kind == "volume" else 1.0
        labels = outputs["pred"].cpu().numpy()
        first = 1 if self.spec.has_background else 0
        row[STEPS] = {n: class_scores(labels, self.mask, n, pixel) for n in range(first, self.spec.num_classes)}
        if self.has_threshold:
            row[THRESHOLD] = threshold_scores(self._counts)


def class_scores(pred: NDArray[np.uint8], truth: NDArray[np.uint8], index: int, pixel_size: float) -> list[float]:
    """Dice of one class of a case after each candidate.

    Args:
        pred: (D, H, W) labels.
        truth: (D, H, W), class or 255.
        index: the class.
        pixel_size: what a pixel counts.
    """
    if len(pred) == 1:
        pred, truth = pred[0], truth[0]
    mask, true = pred == index, truth == index
    n_true, scores = int(true.sum()), []
    by_fill = {}
    for fill in (False, True):
        filled = (mask | (fill_holes(mask) & (pred == 0))) if fill else mask
        by_fill[fill] = _parts(filled, true, truth != IGNORE_INDEX)
    for steps in CANDIDATES:
        sizes, counted, hits = by_fill[steps.fill_holes]
        chosen = sizes * pixel_size >= steps.min_size
        if steps.largest and len(chosen):
            chosen &= np.arange(len(chosen)) == sizes.argmax()
        both = n_true + int(counted[chosen].sum())
        scores.append(2 * int(hits[chosen].sum()) / both if both else 1.0)
    return scores


def threshold_scores(counts: NDArray[np.int64]) -> list[float]:
    """Dice at each threshold.

    Args:
        counts: (2, N_BINS) pixels by truth and probability of the foreground.
    """
    above = counts[:, ::-1].cumsum(axis=1)[:, ::-1]  # pixels of at least the probability of each bin
    bins = [round(threshold * N_BINS) for threshold in THRESHOLDS]
    both = [int(above[:, place].sum() + counts[1].sum()) for place in bins]
    return [2 * int(above[1, place]) / n if n else 1.0 for place, n in zip(bins, both, strict=True)]


def _parts(mask: Mask, true: Mask, valid: Mask) -> Sequence[NDArray[np.int64]]:
    """Of each component its size, its pixels that are not ignored, and those of them that are right."""
    found = components(mask)
    image, n = found.image(), len(found.sizes)
    counted, hits = (np.bincount(image[mask & part], minlength=n + 1)[1:] for part in (valid, true))
    return found.sizes, counted, hits
