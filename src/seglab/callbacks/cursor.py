"""Cursor: where in an epoch the training stands, so that a resumed training goes on with the very next batch."""

import logging
import warnings
from typing import Any

from lightning import Callback, LightningModule, Trainer
from torch import Tensor, nn

from seglab.callbacks.ema import take_trained

Loops = dict[str, Any]

log = logging.getLogger("seglab")


class Cursor(Callback):
    """Counts the batches that were trained, and makes every checkpoint a point to go on from as if never stopped.

    Batches count once they are trained, not when they are fetched, for loaders run ahead. The training data asks for
    `next_batch` whenever an iteration starts. Lightning (2.6.6) keeps its own counters; they are made to agree, also
    when a checkpoint is written between two batches, or after the last batch of an epoch and before the end of its
    validation, which then runs after the resume. Save only where no gradient waits for an optimizer step.

    Buffers, such as running statistics, differ from process to process within an epoch; each process gets its own back.
    A run that is resumed with another number of processes, or another number of batches per epoch or step, starts the
    epoch over.
    """

    def __init__(self) -> None:
        self.epoch, self.batch = 0, 0
        self._validated = False
        self._metrics: dict[str, Tensor] = {}
        self._buffers: dict[str, Tensor] = {}
        self._max_steps: int | None = None

    def next_batch(self) -> tuple[int, int]:
        """Epoch of the next training batch, and its number in that epoch."""
        return self.epoch, self.batch

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Move on; after the last batch to the next epoch."""
        is_last = batch_idx + 1 >= trainer.num_training_batches
        self.epoch, self.batch = (trainer.current_epoch + 1, 0) if is_last else (trainer.current_epoch, batch_idx + 1)
        self._validated = False

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Note that this epoch needs no validation any more."""
        self._validated = not trainer.sanity_checking

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Move on to the next epoch, also from one that max_steps or max_time cut short."""
        self.epoch, self.batch = trainer.current_epoch + 1, 0

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Add the place, what callbacks watch and the buffers of each process, and settle Lightning's counters."""
        buffers = _kept_buffers(pl_module) if trainer.world_size > 1 else {}
        checkpoint["epoch"] = self.epoch if self.batch > 0 else max(self.epoch - 1, 0)  # of the last trained batch
        checkpoint["cursor"] = {
            "epoch": self.epoch,
            "batch": self.batch,
            "plan": _plan(trainer),
            "metrics": {name: value.detach().clone() for name, value in trainer.callback_metrics.items()},
            "buffers": pl_module.all_gather(buffers),  # (world, *shape) each
        }
        loops = checkpoint["loops"]["fit_loop"]
        _forget_announced(loops)
        if self._awaits_validation(trainer, loops):
            _ask_for_validation(loops)

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Take up the place, before any data is loaded."""
        loops = checkpoint["loops"]["fit_loop"]
        state = checkpoint.get("cursor") or {"epoch": loops["epoch_progress"]["current"]["processed"], "batch": 0}
        self.epoch, self.batch, self._metrics = state["epoch"], state["batch"], state.get("metrics", {})
        by_rank = {name: rows for name, rows in state.get("buffers", {}).items() if len(rows) == trainer.world_size}
        self._buffers = {name: rows[trainer.global_rank] for name, rows in by_rank.items()}
        if self.batch > 0 and state["plan"] != _plan(trainer):
            self.batch = 0
            _start_over(loops, self.epoch)
            log.info(f"epoch {self.epoch} starts over: it was begun with {state['plan']}, now it is {_plan(trainer)}")
        if "ema" in checkpoint:  # also where the averaging is switched off from here on
            take_trained(pl_module, checkpoint["ema"]["trained"])
        self._max_steps = trainer.max_steps
        warnings.filterwarnings("ignore", ".*your dataloader is not resumable")  # it is

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Hide max_steps while counters are restored: with it Lightning would end a finished epoch a second time."""
        if self._max_steps is not None:
            trainer.fit_loop.epoch_loop.max_steps = -1

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Bring back max_steps, the metrics that callbacks watch, and buffers, all of which were rank 0's till now."""
        if self._max_steps is not None:
            trainer.fit_loop.epoch_loop.max_steps = self._max_steps
            self._max_steps = None
        trainer.callback_metrics.update(self._metrics)
        for name, value in self._buffers.items():
            pl_module.get_buffer(name).copy_(value)
        self._metrics, self._buffers = {}, {}

    def _awaits_validation(self, trainer: Trainer, loops: Loops) -> bool:
        epochs = loops["epoch_progress"]["total"]
        is_trained = epochs["processed"] < epochs["started"] and self.epoch > trainer.current_epoch
        is_due = trainer.enable_validation and (trainer.current_epoch + 1) % (trainer.check_val_every_n_epoch or 1) == 0
        return is_trained and is_due and not self._validated


def _plan(trainer: Trainer) -> dict[str, int | float]:
    """What the number of a batch means."""
    return {
        "world_size": trainer.world_size,
        "limit_train_batches": trainer.limit_train_batches,
        "accumulate_grad_batches": trainer.accumulate_grad_batches,
    }


def _forget_announced(loops: Loops) -> None:
    """An epoch or a batch that was announced and not begun does not count."""
    for progress in (loops["epoch_progress"], loops["epoch_loop.batch_progress"]):
        if progress["total"]["ready"] > progress["total"]["started"]:
            for count in (progress["total"], progress["current"]):
                count["ready"] = count["started"]
            progress["is_last_batch"] = False


def _ask_for_validation(loops: Loops) -> None:
    """All batches of the epoch are trained, and its validation is under way with nothing done."""
    batches, validation = loops["epoch_loop.batch_progress"], loops["epoch_loop.val_loop.batch_progress"]
    for count in (batches["total"], batches["current"]):
        count["completed"] = count["processed"]
    validation["total"].update(ready=1, started=1, processed=0, completed=0)
    validation["current"].update(ready=0, started=0, processed=0, completed=0)
    validation["is_last_batch"] = False


def _start_over(loops: Loops, epoch: int) -> None:
    """The epochs before this one are finished, and nothing of it is done."""
    for count in (loops["epoch_progress"]["total"], loops["epoch_progress"]["current"]):
        count.update(ready=epoch, started=epoch, processed=epoch, completed=max(epoch - 1, 0))


def _kept_buffers(module: nn.Module) -> dict[str, Tensor]:
    """Floating-point buffers that a state has, told from the modules: with FSDP only rank 0 is given the state."""
    return {
        f"{place}.{name}" if place else name: buffer
        for place, part in module.named_modules()
        for name, buffer in part._buffers.items()
        if buffer is not None and name not in part._non_persistent_buffers_set and buffer.is_floating_point()
    }
