"""Callbacks that do to a training what may happen to it: signals, NaN, losses of a disk or a logger."""

import os
import signal
import time
from pathlib import Path
from typing import Any

import torch
from lightning import Callback, LightningModule, Trainer

from seglab.callbacks.stop import StopOnSignal


class Kick(Callback):
    """Sends signals to its own process at one moment of the training.

    Args:
        number: name of the signal.
        hook: of Lightning, at which it comes.
        step: optimizer steps that are done by then, at least.
        rank: of the process.
        times: how many of them.
    """

    def __init__(self, number: str, hook: str, step: int = 0, rank: int = 0, times: int = 1) -> None:
        self.number, self.hook, self.step, self.rank, self.times = number, hook, step, rank, times

    def _at(self, hook: str, trainer: Trainer) -> None:
        if hook == self.hook and trainer.global_step >= self.step and trainer.global_rank == self.rank:
            for _ in range(self.times):
                os.kill(os.getpid(), getattr(signal, self.number))
            self.times = 0

    def on_train_batch_end(self, trainer: Trainer, *_: Any) -> None:
        self._at("on_train_batch_end", trainer)

    def on_validation_batch_end(self, trainer: Trainer, *_: Any) -> None:
        self._at("on_validation_batch_end", trainer)

    def on_test_batch_end(self, trainer: Trainer, *_: Any) -> None:
        self._at("on_test_batch_end", trainer)

    def on_save_checkpoint(self, trainer: Trainer, *_: Any) -> None:
        self._at("on_save_checkpoint", trainer)

    def on_train_epoch_end(self, trainer: Trainer, *_: Any) -> None:
        self._at("on_train_epoch_end", trainer)


class Hold(Callback):
    """Stands still after a step until the process is told to stop, however late the one that tells it comes.

    Args:
        step: optimizer steps done.
        mark: file that is made when the run stands still.
        n_ranks: processes of a run that is held.
    """

    def __init__(self, step: int, mark: str, n_ranks: int = 1) -> None:
        self.step, self.mark, self.n_ranks = step, Path(mark), n_ranks

    def on_train_batch_end(self, trainer: Trainer, *_: Any) -> None:
        if trainer.global_step == self.step and trainer.is_global_zero and trainer.world_size == self.n_ranks:
            self.mark.touch()
            wait_until_told(trainer)


def wait_until_told(trainer: Trainer) -> None:
    """Wait until the process has got a signal that ends its run."""
    (stop,) = (callback for callback in trainer.callbacks if isinstance(callback, StopOnSignal))
    while not stop.received:
        time.sleep(0.01)


class Poison(Callback):
    """Puts NaN into the training.

    Args:
        where: image, loss or gradient.
        step: optimizer steps that are done by then.
        rank: of the process.
        times: steps in a row.
    """

    def __init__(self, where: str, step: int, rank: int = 0, times: int = 1) -> None:
        self.where, self.step, self.rank, self.times = where, step, rank, times

    def _is_due(self, where: str, trainer: Trainer) -> bool:
        is_time = self.step <= trainer.global_step < self.step + self.times
        return where == self.where and is_time and trainer.global_rank == self.rank

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        if self._is_due("image", trainer):
            batch["image"].fill_(torch.nan)

    def on_before_backward(self, trainer: Trainer, pl_module: LightningModule, loss: torch.Tensor) -> None:
        if self._is_due("loss", trainer):
            loss.detach().fill_(torch.nan)

    def on_after_backward(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self._is_due("gradient", trainer):
            next(pl_module.parameters()).grad.fill_(torch.nan)


class Odd(Callback):
    """Keeps a state that is not plain data."""

    def state_dict(self) -> dict[str, Any]:
        return {"inner": [1, torch.nn.Identity()]}


class KillWandb(Callback):
    """Ends W&B's helper process before a step.

    Args:
        step: optimizer steps that are done by then.
    """

    def __init__(self, step: int) -> None:
        self.step = step

    def on_train_batch_start(self, trainer: Trainer, *_: Any) -> None:
        if trainer.global_step == self.step:
            for file in Path("/proc").glob("[0-9]*/stat"):
                try:
                    name, _, rest = file.read_text().partition("(")[2].rpartition(")")
                except OSError:  # a process of somebody else has ended meanwhile
                    continue
                if name.startswith("wandb-core") and int(rest.split()[1]) == os.getpid():
                    os.kill(int(file.parent.name), signal.SIGKILL)


class Break(Callback):
    """Fails in a step.

    Args:
        step: optimizer steps that are done by then.
    """

    def __init__(self, step: int) -> None:
        self.step = step

    def on_after_backward(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.global_step == self.step:
            torch.zeros(1).backward()
