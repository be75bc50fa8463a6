"""LastCheckpoint: the state to resume from, written when all that came before it is on record."""

import time
from pathlib import Path
from typing import Any

from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint

from seglab.errors import ConfigError

CLOCK_STEPS = 20
"""Optimizer steps between two looks at the clock: on several processes a look is a message of rank 0 to all."""


class LastCheckpoint(Checkpoint):
    """Writes checkpoints/last.ckpt between two epochs, at the end, and every so often between two steps of an epoch.

    It writes before a batch or an epoch starts, not when one ends: Lightning logs what a step and an epoch gave after
    the hooks of their ends, and a run that is killed in between would lose that row for good. Between the batches of an
    accumulated gradient, and between the last batch of an epoch and its validation, nothing is written.

    Args:
        run_dir: folder of the run.
        every_n_steps: optimizer steps between two checkpoints within an epoch, None for none.
        every_n_minutes: the same in minutes, None for none.

    Raises:
        ConfigError: an interval that is none.
    """

    def __init__(self, run_dir: str, every_n_steps: int | None = None, every_n_minutes: float | None = None) -> None:
        for name, value in (("every_n_steps", every_n_steps), ("every_n_minutes", every_n_minutes)):
            if value is not None and value <= 0:
                raise ConfigError(
                    "this is no time between two checkpoints",
                    given=f"callbacks.last.{name}={value}",
                    allowed="numbers above 0, or null for the ends of epochs alone",
                    fix=f"set callbacks.last.{name}=null",
                )
        self.file = Path(run_dir) / "checkpoints" / "last.ckpt"
        self.every_n_steps, self.every_n_minutes = every_n_steps, every_n_minutes
        self._saved_step, self._saved_at = 0, time.monotonic()

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save the finished epoch."""
        self.save(trainer)

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Save within an epoch when it is time."""
        if batch_idx > 0 and batch_idx % trainer.accumulate_grad_batches == 0 and self._is_due(trainer):
            self.save(trainer)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save the last epoch."""
        self.save(trainer)

    def save(self, trainer: Trainer) -> None:
        """Save now, on all processes and where no gradient waits for its step, unless the last step has been saved."""
        if trainer.global_step != self._saved_step:
            trainer.save_checkpoint(self.file)
            self._saved_step, self._saved_at = trainer.global_step, time.monotonic()

    def _is_due(self, trainer: Trainer) -> bool:
        if self.every_n_steps is not None and trainer.global_step % self.every_n_steps == 0:
            return True
        if self.every_n_minutes is None or trainer.global_step % CLOCK_STEPS:
            return False
        is_late = time.monotonic() - self._saved_at >= 60 * self.every_n_minutes
        return bool(trainer.strategy.broadcast(is_late))  # the clocks of the processes may differ
