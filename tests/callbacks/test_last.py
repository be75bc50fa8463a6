"""LastCheckpoint: written between steps and between epochs, never while a gradient waits or a validation is due."""

import warnings
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from lightning import LightningModule, Trainer
from torch import Tensor
from torch.utils.data import DataLoader

from seglab.callbacks.cursor import Cursor
from seglab.callbacks.last import CLOCK_STEPS, LastCheckpoint
from seglab.errors import ConfigError


class Model(LightningModule):
    """Notes the place in the training at which it is saved: epoch, batches of it, optimizer steps."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(1, 1)
        self.saves: list[tuple[int, int, int]] = []

    def training_step(self, batch: Tensor, batch_idx: int) -> Tensor:
        return self.layer(batch).sum()  # type: ignore[no-any-return]

    def validation_step(self, batch: Tensor, batch_idx: int) -> None:
        return None

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        cursor = checkpoint["cursor"]
        self.saves.append((cursor["epoch"], cursor["batch"], self.global_step))

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=1e-3)


def saves(tmp_path: Path, n_batches: int, last: dict[str, Any], **settings: Any) -> list[tuple[int, int, int]]:
    model, data = Model(), DataLoader(torch.ones(n_batches, 1))
    quiet = ("logger", "enable_progress_bar", "enable_model_summary", "num_sanity_val_steps")
    settings = {"max_epochs": 2, **dict.fromkeys(quiet, False), **settings}
    trainer = Trainer(accelerator="cpu", callbacks=[Cursor(), LastCheckpoint(str(tmp_path), **last)], **settings)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trainer.fit(model, data, DataLoader(torch.ones(1, 1)))
    content = torch.load(tmp_path / "checkpoints" / "last.ckpt", weights_only=True)
    assert (content["cursor"]["epoch"], content["cursor"]["batch"], content["global_step"]) == model.saves[-1]
    return model.saves


def test_without_an_interval_every_epoch_is_saved_once(tmp_path: Path) -> None:
    assert saves(tmp_path, 3, {}) == [(1, 0, 3), (2, 0, 6)]


def test_steps_within_an_epoch_are_saved_but_not_its_last_before_the_validation(tmp_path: Path) -> None:
    assert saves(tmp_path, 4, {"every_n_steps": 2}) == [(0, 2, 2), (1, 0, 4), (1, 2, 6), (2, 0, 8)]
    assert saves(tmp_path, 3, {"every_n_steps": 2}) == [(0, 2, 2), (1, 0, 3), (1, 1, 4), (2, 0, 6)]


def test_nothing_is_saved_while_a_gradient_waits_for_its_step(tmp_path: Path) -> None:
    assert saves(tmp_path, 5, {"every_n_steps": 1}, accumulate_grad_batches=2) == [
        *((0, 2, 1), (0, 4, 2), (1, 0, 3)),
        *((1, 2, 4), (1, 4, 5), (2, 0, 6)),
    ]


def test_the_clock_is_looked_at_every_few_steps(tmp_path: Path) -> None:
    n = 2 * CLOCK_STEPS + 3
    within = [(0, CLOCK_STEPS, CLOCK_STEPS), (0, 2 * CLOCK_STEPS, 2 * CLOCK_STEPS)]
    assert saves(tmp_path, n, {"every_n_minutes": 1e-9}, max_epochs=1) == [*within, (1, 0, n)]
    assert saves(tmp_path, n, {"every_n_minutes": 60}, max_epochs=1) == [(1, 0, n)]


def test_a_clock_that_strikes_between_two_accumulated_batches_is_heard_at_the_next_look(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seconds = iter(range(1000))
    clock = SimpleNamespace(monotonic=lambda: next(seconds))  # a second passes between two looks
    monkeypatch.setattr("seglab.callbacks.last.time", clock)
    found = saves(tmp_path, 5 * CLOCK_STEPS, {"every_n_minutes": 1.5 / 60}, max_epochs=1, accumulate_grad_batches=2)
    assert found[0] == (0, 4 * CLOCK_STEPS, 2 * CLOCK_STEPS)


@pytest.mark.parametrize("arguments", [{"every_n_steps": 0}, {"every_n_minutes": -1.0}])
def test_an_interval_that_is_none_is_refused(arguments: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no time") as caught:
        LastCheckpoint(str(tmp_path), **arguments)
    assert caught.value.fix == f"set callbacks.last.{next(iter(arguments))}=null"
