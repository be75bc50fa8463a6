"""FiniteGuard: a loss or gradient that is no number ends the training, or takes it back, before it can be saved."""

import logging
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from lightning import Callback, LightningModule, Trainer
from torch import Tensor
from torch.optim import Optimizer

from seglab.callbacks.rollback import roll_back
from seglab.errors import ConfigError, TrainingError

log = logging.getLogger("seglab")

CHOICES = ("stop", "rollback")


@dataclass(frozen=True)
class Verdict:
    """What is known of one optimizer step; the numbers may still be on their way from the device.

    Args:
        step: number of the step, from 1.
        epoch: of it.
        cases: that this process gave it.
        numbers: (3,): whether the step is bad for any process, whether the loss of this one is, and that loss.
        arrived: when the numbers are on the CPU; None for now.
    """

    step: int
    epoch: int
    cases: tuple[str, ...]
    numbers: Tensor
    arrived: torch.cuda.Event | None

    def read(self) -> tuple[bool, bool, float]:
        """The numbers, once they are there."""
        if self.arrived is not None:
            self.arrived.synchronize()
        is_bad, is_own, loss = self.numbers.tolist()
        return bool(is_bad), bool(is_own), loss


class FiniteGuard(Callback):
    """Judges the loss and the norm of the gradient of every optimizer step; all processes come to one verdict.

    Cost: one reading of the gradients, and one number for several processes to exchange. On a GPU the verdict on a step
    is read during the next one, so that the device never waits; a bad step is in the weights by then, but in no
    checkpoint, for each awaits the verdict. With a `patience` above 1 or `rollback` it is read at once and a bad step
    is left out, for the price of one wait for the device per step.

    With trainer.precision=16-mixed the gradient is left to the scaler, which leaves out steps by itself.

    Args:
        run_dir: folder of the run, with the checkpoint to go back to.
        patience: bad steps in a row that end the training, or take it back.
        on_nan: stop, or rollback: to the weights and the optimizer of last.ckpt, with a lower learning rate; the data
            goes on.
        retries: times that a rollback is tried.
        lr_factor: on the learning rate at each rollback.

    Raises:
        ConfigError: an unknown choice, or numbers that make no sense.
    """

    def __init__(
        self, run_dir: str, patience: int = 1, on_nan: str = "stop", retries: int = 2, lr_factor: float = 0.5
    ) -> None:
        if on_nan not in CHOICES or patience < 1 or retries < 0 or not 0 < lr_factor <= 1:
            raise ConfigError(
                "the guard against NaN cannot work like this",
                given=f"callbacks.finite.on_nan={on_nan}, patience={patience}, retries={retries}, "
                f"lr_factor={lr_factor}",
                allowed="on_nan stop or rollback, patience from 1 up, retries from 0 up, lr_factor above 0 and up to 1",
                fix="set callbacks.finite.on_nan=stop callbacks.finite.patience=1",
            )
        self.run_dir = Path(run_dir)
        self.patience, self.on_nan, self.retries, self.lr_factor = patience, on_nan, retries, lr_factor
        self.n_rollbacks, self._n_bad = 0, 0
        self._reads_at_once = patience > 1 or on_nan == "rollback"
        self._pending: Verdict | None = None
        self._cases: list[str] = []
        self._losses: list[Tensor] = []

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Note whose step it is."""
        self._cases += batch.get("case", []) if isinstance(batch, dict) else []

    def on_before_backward(self, trainer: Trainer, pl_module: LightningModule, loss: Tensor) -> None:
        """Note the loss of a batch, of which an optimizer step may have several."""
        self._losses.append(loss.detach().float())

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Optimizer) -> None:
        """Judge the step that is about to be made; on a GPU, act on the one before."""
        has_scaler = getattr(trainer.precision_plugin, "scaler", None) is not None
        gradients = [] if has_scaler else [weight.grad for weight in pl_module.parameters() if weight.grad is not None]
        verdict = self._judge(trainer, gradients)
        self._settle(trainer, pl_module)
        self._pending = verdict
        if self._reads_at_once and verdict.read()[0] and not has_scaler:
            optimizer.zero_grad()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Act on the verdict where that means no wait."""
        if self._reads_at_once or (self._pending is not None and self._pending.arrived is None):
            self._settle(trainer, pl_module)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Score no weights that a bad step has spoiled."""
        self._settle(trainer, pl_module)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """End no epoch with a bad step."""
        self._settle(trainer, pl_module)

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Let no checkpoint be written after a bad step, nor one with NaN in it.

        Raises:
            TrainingError: on all processes; nothing has been written.
        """
        self._settle(trainer, pl_module)
        floats = {name: value for name, value in checkpoint["state_dict"].items() if value.is_floating_point()}
        is_nan = torch.stack([value.isnan().any() for value in floats.values()])
        if _on_any_rank(trainer, is_nan.any()):
            names = [name for name, bad in zip(floats, is_nan.tolist(), strict=True) if bad]
            raise self._error(trainer, "the network holds NaN, so it is not saved", f"{', '.join(names[:3])} ...")

    def state_dict(self) -> dict[str, Any]:
        """How often the training was taken back."""
        return {"n_rollbacks": self.n_rollbacks}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on counting."""
        self.n_rollbacks = state_dict["n_rollbacks"]

    def _judge(self, trainer: Trainer, gradients: list[Tensor]) -> Verdict:
        loss = torch.stack(self._losses).sum()
        is_own = ~loss.isfinite()
        is_bad = is_own | ~torch.nn.utils.get_total_norm(gradients).to(loss.device).isfinite()
        numbers = torch.stack([_on_any_rank(trainer, is_bad).float(), is_own.float(), loss])
        arrived = None
        if numbers.is_cuda:
            numbers, arrived = numbers.to("cpu", non_blocking=True), torch.cuda.Event()  # type: ignore[no-untyped-call]
            arrived.record()
        verdict = Verdict(trainer.global_step + 1, trainer.current_epoch, tuple(self._cases), numbers, arrived)
        self._cases, self._losses = [], []
        return verdict

    def _settle(self, trainer: Trainer, pl_module: LightningModule) -> None:
        verdict, self._pending = self._pending, None
        if verdict is None:
            return
        if not verdict.read()[0]:
            self._n_bad = 0
            return
        self._n_bad += 1
        what = _describe(trainer, verdict)
        if self._n_bad < self.patience:
            log.warning(f"bad step {self._n_bad} of {self.patience} left out: {what}")
        elif self.on_nan == "rollback" and self.n_rollbacks < self.retries and self._last_file.is_file():
            self._roll_back(trainer, pl_module, what)
        else:
            raise self._error(trainer, "the training has come to a loss or gradient that is not finite", what)

    @property
    def _last_file(self) -> Path:
        return self.run_dir / "checkpoints" / "last.ckpt"

    def _roll_back(self, trainer: Trainer, pl_module: LightningModule, what: str) -> None:
        self.n_rollbacks, self._n_bad = self.n_rollbacks + 1, 0
        step, lr = roll_back(trainer, pl_module, self._last_file, self.lr_factor)
        log.warning(
            f"{what}; back to step {step} with learning rate {lr:g}, rollback {self.n_rollbacks} of {self.retries}"
        )

    def _error(self, trainer: Trainer, what: str, given: str) -> TrainingError:
        return TrainingError(
            what,
            given=given,
            allowed=f"finite numbers; {self.patience} bad step(s) after {self.n_rollbacks} rollback(s) end a training",
            fix=f"{self._way_on()}start anew with a lower optimizer.lr, or find the operation with "
            "trainer.detect_anomaly=true",
        )

    def _way_on(self) -> str:
        """How to go on from the last good step, when one has been saved."""
        if not self._last_file.is_file():
            return "there is no checkpoint yet to go back to: "
        return f"go on from the last good step with resume={self.run_dir} callbacks.finite.on_nan=rollback, or "


def _on_any_rank(trainer: Trainer, is_so: Tensor) -> Tensor:
    """Whether something is so on any process, on the device it is asked on."""
    if trainer.world_size == 1:
        return is_so
    found = is_so.int()
    dist.all_reduce(found, dist.ReduceOp.MAX)
    return found


def _describe(trainer: Trainer, verdict: Verdict) -> str:
    """Which step, which process, which cases."""
    _, is_own, loss = verdict.read()
    mine = (is_own, f"loss {loss:g} on process {trainer.global_rank} with cases {_listed(verdict.cases)}")
    told: list[Any] = [mine] * trainer.world_size
    if trainer.world_size > 1:
        dist.all_gather_object(told, mine)
    guilty = [text for is_bad, text in told if is_bad] or [f"gradient not finite at {text}" for _, text in told]
    return f"step {verdict.step} of epoch {verdict.epoch}: {'; '.join(guilty)}"


def _listed(cases: Iterable[str]) -> str:
    return ", ".join(dict.fromkeys(cases)) or "unknown"
