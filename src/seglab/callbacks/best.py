"""KeptScores: all metrics as they were when the best checkpoint was written."""

from typing import Any

from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint


class KeptScores(Callback):
    """Remembers every logged metric of the epoch whose checkpoint is kept, and that epoch.

    Each metric's own best may come from different epochs; these belong together. Logged as best/<metric>.
    """

    def __init__(self) -> None:
        self.scores: dict[str, float] = {}
        self._path_and_score: tuple[str, float] | None = None

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Note the scores when the checkpoint callback has just kept a new best."""
        checkpoint = trainer.checkpoint_callback
        if not isinstance(checkpoint, ModelCheckpoint) or not checkpoint.best_model_path:
            return
        score = checkpoint.best_model_score
        kept = (checkpoint.best_model_path, float(score) if score is not None else float(trainer.current_epoch))
        if kept != self._path_and_score:
            self._path_and_score = kept
            values = {name: float(value) for name, value in trainer.callback_metrics.items()}
            shown = {name: value for name, value in values.items() if name.startswith(("val/", "train/loss"))}
            self.scores = {"best/epoch": float(trainer.current_epoch)} | {f"best/{k}": v for k, v in shown.items()}
            pl_module.log_dict(self.scores)

    def state_dict(self) -> dict[str, Any]:
        """Plain numbers for the checkpoint."""
        return {"scores": self.scores, "kept": list(self._path_and_score or ())}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on where the checkpoint was written."""
        self.scores = dict(state_dict["scores"])
        kept = state_dict["kept"]
        self._path_and_score = (str(kept[0]), float(kept[1])) if kept else None
