"""KeptScores: all metrics as they were when the best checkpoint was written."""

from pathlib import Path
from typing import Any

from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint


class KeptScores(Callback):
    """Remembers every validation metric of the epoch whose checkpoint is kept, and that epoch.

    Each metric's own best may come from different epochs; these belong together. Logged as best/<metric>. They are
    noted just before the checkpoint is written, which Lightning does last, so that the checkpoint holds its own scores.
    """

    def __init__(self) -> None:
        self.scores: dict[str, float] = {}

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Note the scores when the checkpoint callback is about to keep a new best."""
        keeper = trainer.checkpoint_callback
        if trainer.sanity_checking or not isinstance(keeper, ModelCheckpoint) or keeper.monitor is None:
            return
        monitored = trainer.callback_metrics.get(keeper.monitor)
        if keeper.check_monitor_top_k(trainer, monitored):
            values = {name: float(value) for name, value in trainer.callback_metrics.items()}
            self.scores = {f"best/{name}": value for name, value in values.items() if name.startswith("val/")}
            self.scores["best/epoch"] = float(trainer.current_epoch)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Log what is kept; where nothing is monitored the last epoch is kept."""
        keeper = trainer.checkpoint_callback
        if isinstance(keeper, ModelCheckpoint) and keeper.monitor is None:
            self.scores = {"best/epoch": float(trainer.current_epoch)}
        pl_module.log_dict(self.scores)

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Follow a run folder that was moved; Lightning would forget the best score."""
        keeper = trainer.checkpoint_callback
        if not isinstance(keeper, ModelCheckpoint) or keeper.dirpath is None:
            return
        folder = Path(keeper.dirpath)
        for state in checkpoint["callbacks"].values():
            if state.get("dirpath") not in (None, keeper.dirpath):
                state["dirpath"] = keeper.dirpath
                for name in ("best_model_path", "kth_best_model_path", "last_model_path"):
                    state[name] = state[name] and str(folder / Path(state[name]).name)
                state["best_k_models"] = {str(folder / Path(k).name): v for k, v in state["best_k_models"].items()}

    def state_dict(self) -> dict[str, Any]:
        """Plain numbers for the checkpoint."""
        return {"scores": self.scores}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on where the checkpoint was written."""
        self.scores = dict(state_dict["scores"])
