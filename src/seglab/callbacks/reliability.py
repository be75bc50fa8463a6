"""Calibration of every test case, from the probabilities as they are made: they are never held for a whole case."""

from typing import Any

import numpy as np
from lightning import Callback, LightningModule, Trainer
from numpy.typing import NDArray

from seglab.inference.cases import Part
from seglab.metrics.calibration import Calibration

COLUMN = "_calibration"
"""Of a row: the sums of its case, to be added up over the cases of all ranks and taken out."""


class Reliability(Callback):
    """Writes ece and brier into each row of the test, and the sums behind them."""

    def __init__(self) -> None:
        self._found = Calibration()
        self._mask: NDArray[np.uint8] = np.zeros((0, 0, 0), np.uint8)
        self._seen: set[tuple[int, int]] = set()

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Look at each part of a case."""
        pl_module.on_part = self.see  # type: ignore[assignment]  # of every task

    def on_test_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """Begin a case."""
        self._found, self._seen = Calibration(), set()
        self._mask = batch["mask"].cpu().numpy().astype(np.uint8)

    def see(self, part: Part) -> None:
        """Add a part of a case; slices that a batch repeats count once."""
        if part.probs is None:
            return
        probs = part.probs.cpu().numpy()  # (K, d, h, W)
        for index, z in enumerate(range(*part.depth)):
            if (z, part.height[0]) not in self._seen:
                self._seen.add((z, part.height[0]))
                self._found.update(probs[:, index], self._mask[z, slice(*part.height)])

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
        scores = {"ece": self._found.ece, "brier": self._found.brier, COLUMN: self._found}
        pl_module.case_rows[-1].update(scores)  # type: ignore[index, union-attr]  # of the case just scored

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Look no more."""
        pl_module.on_part = None  # type: ignore[assignment]
