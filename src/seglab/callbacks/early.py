"""EarlyStop: early stopping that holds over a resume."""

from typing import Any

from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import EarlyStopping
from lightning.pytorch.callbacks.early_stopping import EarlyStoppingReason


class EarlyStop(EarlyStopping):
    """Ends the training when a metric no longer improves.

    Lightning's own (2.6.6) trains one more epoch when a run that it has ended is resumed, and takes the patience from
    the checkpoint, whatever is asked for at the resume.

    Args:
        monitor: metric of the validation.
        mode: min or max, what is better.
        patience: validations without improvement.
        min_delta: the least that counts as improvement.
        check_finite: end also when the metric is NaN or infinite.
    """

    def __init__(
        self, monitor: str, mode: str = "max", patience: int = 30, min_delta: float = 0.0, *, check_finite: bool = True
    ) -> None:
        super().__init__(monitor, mode=mode, patience=patience, min_delta=min_delta, check_finite=check_finite)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on counting, with the patience that is asked for now."""
        super().load_state_dict({**state_dict, "patience": self.patience})
        if self.stopping_reason is EarlyStoppingReason.PATIENCE_EXHAUSTED and self.wait_count < self.patience:
            self.stopping_reason = EarlyStoppingReason.NOT_STOPPED

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """A training that was ended stays ended."""
        trainer.should_stop = trainer.should_stop or self.stopping_reason is not EarlyStoppingReason.NOT_STOPPED
