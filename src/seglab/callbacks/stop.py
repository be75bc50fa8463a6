"""StopOnSignal: a training that is told to stop saves its last finished step first, on all processes alike."""

import atexit
import logging
import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from types import FrameType
from typing import Any

import torch
import torch.distributed as dist
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint

from seglab.callbacks.last import LastCheckpoint

log = logging.getLogger("seglab")

SIGNALS = tuple(getattr(signal, name) for name in ("SIGTERM", "SIGINT", "SIGUSR1") if hasattr(signal, name))
IMPATIENT = 3
"""So many signals end the process at once, without waiting for the end of a step or of a save."""

_listening: set[int] = set()  # processes that handle signals; those forked from them do not


class Stopped(SystemExit):
    """The end of a process that was told to stop.

    Args:
        number: of the signal.
        is_first: whether this is rank 0, whose exit code is the run's: 128 + number, as shells count. The others end
            with 0, so that nobody takes them for failed and kills rank 0 while it closes its loggers.
    """

    def __init__(self, number: int, *, is_first: bool = True) -> None:
        super().__init__(128 + number if is_first else 0)
        self.number, self.name = number, signal.Signals(number).name


class StopOnSignal(Checkpoint):
    """On SIGTERM, SIGINT or SIGUSR1 the step under way is finished, its state saved, and the run ends.

    Lightning's own handlers (2.6.6) save nothing, end with exit code 0, and wait for ever when one process of several
    gets the signal. Here the processes ask each other between two steps, at the end of a validation and of a test, in a
    group of their own on the CPU: 0.3 ms a step (two processes on two busy cores), and no device has to catch up for
    it. A process that got the signal leaves a validation early, and the others join it when theirs is over.

    Lightning calls this last among the callbacks, so that all others have taken the step in.

    Args:
        run_dir: folder of the run.
        timeout_s: seconds after which a process gives up waiting for the others.
    """

    def __init__(self, run_dir: str, timeout_s: float = 600) -> None:
        self.last, self.timeout = LastCheckpoint(run_dir), timedelta(seconds=timeout_s)
        self.received, self._n_received = 0, 0
        self._has_steps, self._is_first = False, os.environ.get("LOCAL_RANK", "0") == "0"
        self._group: Any = None

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Handle signals while the block runs: at once, or between two steps while a loop runs."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.getsignal(number) for number in SIGNALS}
        _listening.add(os.getpid())
        self._listen()
        try:
            yield
        finally:
            _listening.discard(os.getpid())
            for number, handler in before.items():
                signal.signal(number, handler)

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """From here on there are steps to wait for; the processes need a way to ask each other."""
        self._has_steps, self._is_first = True, trainer.is_global_zero
        if trainer.world_size > 1 and self._group is None:
            self._group = dist.new_group(backend="gloo", timeout=self.timeout)

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """No more steps."""
        self._has_steps = False

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """No more steps."""
        self._has_steps = False

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Take the signals back from Lightning."""
        self._listen()
        known = [callback for callback in trainer.checkpoint_callbacks if isinstance(callback, LastCheckpoint)]
        self.last = known[0] if known else self.last

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Between two epochs."""
        self._stop_if_told(trainer)

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Between two optimizer steps."""
        if batch_idx > 0 and batch_idx % trainer.accumulate_grad_batches == 0:
            self._stop_if_told(trainer)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Before the test."""
        self._stop_if_told(trainer)

    def on_validation_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """Leave the validation, which runs anew after a resume."""
        if self.received and not trainer.sanity_checking:
            self._stop_if_told(trainer)

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Join those that left early, before the scores are summed up."""
        if not trainer.sanity_checking:
            self._stop_if_told(trainer)

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Take the signals back from Lightning."""
        self._listen()

    def on_test_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """Leave the test; a resume tests again."""
        if self.received:
            self._stop_if_told(trainer)

    def on_test_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Join those that left early."""
        self._stop_if_told(trainer)

    def _stop_if_told(self, trainer: Trainer) -> None:
        number = self._ask_all(trainer)
        if not number:
            return
        if not trainer.testing:
            self.last.save(trainer)
        if trainer.is_global_zero:
            run_dir = self.last.file.parent.parent
            log.warning(f"{signal.Signals(number).name}: stopped after step {trainer.global_step}; resume={run_dir}")
        raise Stopped(number, is_first=trainer.is_global_zero)

    def _ask_all(self, trainer: Trainer) -> int:
        if trainer.world_size == 1:
            return self.received
        number = torch.tensor([self.received])
        dist.all_reduce(number, dist.ReduceOp.MAX, group=self._group)
        return int(number)

    def _listen(self) -> None:
        if os.getpid() in _listening:
            for number in SIGNALS:
                signal.signal(number, self._receive)

    def _receive(self, number: int, frame: FrameType | None) -> None:
        self.received, self._n_received = self.received or number, self._n_received + 1
        is_told = self._n_received == 1
        if self._n_received >= IMPATIENT or (is_told and not self._has_steps):
            raise Stopped(number, is_first=self._is_first)
        if is_told and self._is_first:  # by the one call that is allowed at any moment
            os.write(2, f"\n{signal.Signals(number).name}: saving after this step\n".encode())


def _leave_to_parent() -> None:
    """Loader processes serve the step under way to its end, also when the whole group of processes gets the signal."""
    if os.getppid() in _listening:
        _listening.clear()
        signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)


def _end_children() -> None:
    """As they are deaf to SIGTERM, the last of them, such as one that hangs, are ended with SIGKILL."""
    if children := multiprocessing.active_children():
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # torch's handler would call it an error
        for child in children:
            child.kill()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_leave_to_parent)
    atexit.register(_end_children)
