"""The slices of every test case with their probabilities, as they are made: they are never held for a whole case."""

from abc import ABC, abstractmethod
from typing import Any

import numpy as np
from lightning import Callback, LightningModule, Trainer
from numpy.typing import NDArray

from seglab.inference.cases import Part


class EachSlice(Callback, ABC):
    """Shows every slice, or rows of it, of the case that is being tested once, also where a batch repeats it."""

    def __init__(self) -> None:
        self.mask: NDArray[np.uint8] = np.zeros((0, 0, 0), np.uint8)  # (D, H, W) of the case
        self._seen: set[tuple[int, int]] = set()

    @abstractmethod
    def begin(self) -> None:
        """A case begins."""

    @abstractmethod
    def see(self, probs: NDArray[np.float16], mask: NDArray[np.uint8]) -> None:
        """Look at rows of a slice: probabilities (K, h, W) and the mask (h, W), class or 255."""

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Look at each part of a case."""
        pl_module.on_part = self._see_part  # type: ignore[assignment]  # of every task

    def on_test_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """Begin a case."""
        self.mask, self._seen = batch["mask"].cpu().numpy().astype(np.uint8), set()
        self.begin()

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Look no more."""
        pl_module.on_part = None  # type: ignore[assignment]

    def _see_part(self, part: Part) -> None:
        if part.probs is None:
            return
        probs = part.probs.cpu().numpy()  # (K, d, h, W)
        for index, z in enumerate(range(*part.depth)):
            if (z, part.height[0]) not in self._seen:
                self._seen.add((z, part.height[0]))
                self.see(probs[:, index], self.mask[z, slice(*part.height)])
