"""StopAt: a callback that ends a training as a power cut would, at one place of it."""

from typing import Any

from lightning import Callback, LightningModule, Trainer


class PowerCut(Exception):
    """Stands for it."""


class StopAt(Callback):
    """Stops after a batch of an epoch, or in the validation of that epoch.

    Args:
        epoch: from 0.
        batch: number of the batch, from 0; of the validation if `validates`.
        validates: where.
    """

    def __init__(self, epoch: int, batch: int, *, validates: bool = False) -> None:
        self.place = (validates, epoch, batch)

    def on_train_batch_end(
        self, trainer: Trainer, module: LightningModule, out: Any, batch: Any, batch_idx: int
    ) -> None:
        if (False, trainer.current_epoch, batch_idx) == self.place:
            raise PowerCut

    def on_validation_batch_end(
        self, trainer: Trainer, module: LightningModule, out: Any, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        if (True, trainer.current_epoch, batch_idx) == self.place:
            raise PowerCut
