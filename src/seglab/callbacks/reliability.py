"""Calibration of every test case."""

from typing import Any

import numpy as np
from lightning import LightningModule, Trainer
from numpy.typing import NDArray

from seglab.callbacks.slices import EachSlice
from seglab.metrics.calibration import Calibration

COLUMN = "_calibration"
"""Of a row: the sums of its case, to be added up over the cases of all ranks and taken out."""


class Reliability(EachSlice):
    """Writes ece and brier into each row of the test, and the sums behind them."""

    def __init__(self) -> None:
        super().__init__()
        self._found = Calibration()

    def begin(self) -> None:
        """Add up from nothing."""
        self._found = Calibration()

    def see(self, probs: NDArray[np.float16], mask: NDArray[np.uint8]) -> None:
        """Add a slice."""
        self._found.update(probs, mask)

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
