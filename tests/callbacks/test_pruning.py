"""Pruning: reports the watched metric of each epoch, and ends the training when told to."""

import math
import warnings
from pathlib import Path

import torch
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import Tensor
from torch.utils.data import DataLoader

from seglab.callbacks.pruning import Pruning, was_pruned


class Model(LightningModule):
    """Scores 0, 1, 2, ... or NaN, by epoch."""

    def __init__(self, *, has_score: bool) -> None:
        super().__init__()
        self.layer, self.has_score = torch.nn.Linear(1, 1), has_score

    def training_step(self, batch: Tensor, batch_idx: int) -> Tensor:
        return self.layer(batch).sum()  # type: ignore[no-any-return]

    def validation_step(self, batch: Tensor, batch_idx: int) -> None:
        self.log("score", float(self.current_epoch) if self.has_score else math.nan)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=1e-3)


def trained(tmp_path: Path, stop_at: int, *, has_score: bool = True) -> tuple[Trainer, list[tuple[int, float]]]:
    """Three epochs at most, told to stop at one of them; and what was reported."""
    reported = []

    def report(epoch: int, value: float) -> bool:
        reported.append((epoch, value))
        return epoch == stop_at

    keeper = ModelCheckpoint(tmp_path, monitor="score", mode="max", filename="{epoch}")
    quiet = dict.fromkeys(("logger", "enable_progress_bar", "enable_model_summary"), False)
    trainer = Trainer(accelerator="cpu", max_epochs=3, callbacks=[Pruning(report), keeper], **quiet)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trainer.fit(Model(has_score=has_score), DataLoader(torch.ones(2, 1)), DataLoader(torch.ones(1, 1)))
    return trainer, reported


def test_every_epoch_is_reported_once_and_not_the_check_before_the_first(tmp_path: Path) -> None:
    trainer, reported = trained(tmp_path, stop_at=9)
    assert reported == [(0, 0.0), (1, 1.0), (2, 2.0)] and not was_pruned(trainer)


def test_a_training_that_is_told_to_stop_does_and_keeps_its_best_checkpoint(tmp_path: Path) -> None:
    trainer, reported = trained(tmp_path, stop_at=1)
    assert reported == [(0, 0.0), (1, 1.0)] and was_pruned(trainer) and trainer.current_epoch == 2
    assert [file.name for file in tmp_path.iterdir()] == ["epoch=1.ckpt"]


def test_a_training_that_is_at_its_end_is_not_cut_short(tmp_path: Path) -> None:
    trainer, reported = trained(tmp_path, stop_at=2)
    assert len(reported) == 3 and not was_pruned(trainer)


def test_a_metric_that_is_not_a_number_is_not_reported(tmp_path: Path) -> None:
    trainer, reported = trained(tmp_path, stop_at=0, has_score=False)
    assert reported == [] and not was_pruned(trainer)
