"""Whole cases measured by families of metrics, and pictures of the worst of them."""

import heapq
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from lightning import Callback, LightningModule, Trainer
from numpy.typing import NDArray
from PIL import Image

from seglab.callbacks.picture import Example, errors, to_rgb
from seglab.files import atomic_path
from seglab.metrics.families import CaseMetrics
from seglab.metrics.report import foreground_names
from seglab.spec import IGNORE_INDEX, DataSpec

PANEL = 384
"""Longest side of a picture's panels in pixels."""

SLICE = "_slice"
"""Of a row: the slice that the picture of its case shows; to be taken out."""


class CaseScorer:
    """Adds to the rows of cases what the confusion matrix does not know, and keeps pictures of the worst cases.

    Args:
        metrics: families of metrics.
        spec: of the data.
        folder: for pictures, <case>.jpg: the slice with most wrong pixels, and its hits, extra and missed pixels.
        n_pictures: how many of the worst cases, by mean Dice, keep one.
    """

    def __init__(self, metrics: CaseMetrics, spec: DataSpec, folder: Path, n_pictures: int = 12) -> None:
        self.metrics, self.spec, self.folder, self.n_pictures = metrics, spec, folder, n_pictures
        self.slices: dict[str, int] = {}
        self._worst: list[tuple[float, str]] = []

    def measure(
        self,
        row: Mapping[str, Any],
        image: NDArray[Any],
        pred: NDArray[np.uint8],
        truth: NDArray[np.uint8],
        spacing: Sequence[float],
    ) -> dict[str, float]:
        """Measure a case.

        Args:
            row: what `case_scores` gave, with "case".
            image: (C, D, H, W), normalised.
            pred: (D, H, W) labels.
            truth: (D, H, W), class or 255.
            spacing: distance of neighbouring pixels along each axis as read.

        Returns:
            More columns of the row.
        """
        self._picture(row, image, pred, truth)
        return self._contents(row, spacing) | self.metrics(pred, truth, spacing)

    def _contents(self, row: Mapping[str, Any], spacing: Sequence[float]) -> dict[str, float]:
        """How much larger each class is than in the truth: ml in volumes, pixels elsewhere."""
        pixel = math.prod(spacing) / 1000 if self.spec.kind == "volume" else 1.0
        names = foreground_names(self.spec.class_names, has_background=self.spec.has_background)
        sizes = {name: (row[f"n_true/{name}"], row[f"n_pred/{name}"]) for name in names}
        return {f"volume_difference/{name}": (own - true) * pixel for name, (true, own) in sizes.items() if own or true}

    def _picture(
        self, row: Mapping[str, Any], image: NDArray[Any], pred: NDArray[np.uint8], truth: NDArray[np.uint8]
    ) -> None:
        score, case = mean_dice(row), str(row["case"])
        if math.isnan(score) or (len(self._worst) == self.n_pictures and score >= -self._worst[0][0]):
            return
        entry = (-score, case)  # the best of the worst comes first
        if len(self._worst) < self.n_pictures:
            heapq.heappush(self._worst, entry)
        else:
            self._file(heapq.heapreplace(self._worst, entry)[1]).unlink(missing_ok=True)
        wrong = ((pred != truth) & (truth != IGNORE_INDEX)).sum(axis=(1, 2))
        z = int(wrong.argmax())
        self.slices[case] = z
        example = Example(case, image[:, z].astype(np.float32), truth[z], pred[z])
        with atomic_path(self._file(case)) as temporary:
            panels(example, self.spec).save(temporary, quality=88)

    def _file(self, case: str) -> Path:
        return self.folder / f"{case}.jpg"


class CaseMeasures(Callback):
    """Completes each row of the test: metadata, families of metrics.

    Args:
        scorer: measures a case.
        metadata: by case, what else is known of it.
    """

    def __init__(self, scorer: CaseScorer, metadata: Mapping[str, Mapping[str, str]]) -> None:
        self.scorer, self.metadata = scorer, metadata

    def on_test_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Measure a test case."""
        row: dict[str, Any] = pl_module.case_rows[-1]  # type: ignore[assignment, index]  # of the case just scored
        image, truth, pred = (part.cpu().numpy() for part in (batch["image"].float(), batch["mask"], outputs["pred"]))
        labels = truth.astype(np.uint8), pred.astype(np.uint8)
        row |= {f"meta/{key}": value for key, value in self.metadata.get(row["case"], {}).items()}
        row |= self.scorer.measure(row, image, labels[1], labels[0], batch["spacing"])
        row[SLICE] = self.scorer.slices.get(row["case"])


def mean_dice(row: Mapping[str, Any]) -> float:
    """Mean Dice of a row over its classes; NaN where the case holds none."""
    known = [value for key, value in row.items() if key.startswith("dice/") and not math.isnan(value)]
    return sum(known) / len(known) if known else math.nan


def panels(example: Example, spec: DataSpec) -> Image.Image:
    """The image and, beside it, its hits, extra and missed pixels."""
    image = to_rgb(example.image, spec)
    gap = np.full((image.shape[0], max(2, image.shape[1] // 64), 3), 255, np.uint8)
    sheet = Image.fromarray(np.concatenate([image, gap, errors(image, example, spec)], axis=1))
    scale = PANEL / max(image.shape[:2])
    size = (max(1, round(sheet.width * scale)), max(1, round(sheet.height * scale)))
    return sheet.resize(size, Image.Resampling.BOX if scale < 1 else Image.Resampling.NEAREST)
