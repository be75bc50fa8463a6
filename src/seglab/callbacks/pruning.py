"""Pruning: a trial of a study tells how far it has come after each validation, and ends when it falls behind."""

import math
from collections.abc import Callable

from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint


class Pruning(Callback):
    """Reports the metric that the checkpoint watches, and stops the training on all processes when told to.

    A training that is at its end anyway is not cut short, nor is one whose metric is not a number yet.

    Args:
        report: takes epoch and value; whether to stop. Called on rank 0 alone.
    """

    def __init__(self, report: Callable[[int, float], bool]) -> None:
        self.report, self.pruned = report, False

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Report, and stop after this epoch if told to."""
        keeper = trainer.checkpoint_callback
        if trainer.sanity_checking or not isinstance(keeper, ModelCheckpoint) or keeper.monitor is None:
            return
        value = float(trainer.callback_metrics.get(keeper.monitor, math.nan))
        is_behind = trainer.is_global_zero and not math.isnan(value) and self.report(trainer.current_epoch, value)
        is_last = trainer.current_epoch + 1 == trainer.max_epochs
        self.pruned = bool(trainer.strategy.broadcast(is_behind and not is_last and not trainer.should_stop))
        trainer.should_stop = trainer.should_stop or self.pruned

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Mark a run that was cut short, so that it can be told from others in W&B."""
        if self.pruned:
            for logger in trainer.loggers:
                logger.log_metrics({"pruned": 1.0}, trainer.global_step)


def was_pruned(trainer: Trainer) -> bool:
    """Whether a training was cut short because it fell behind other trials."""
    return any(isinstance(callback, Pruning) and callback.pruned for callback in trainer.callbacks)  # type: ignore[attr-defined]
