"""Cursor: whatever moment a checkpoint is from, the training goes on from it as if it had never stopped."""

import warnings
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning import LightningDataModule, LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint
from lightning.pytorch.loggers import Logger
from torch.utils.data import DataLoader, Dataset

from seglab.callbacks.cursor import Cursor
from seglab.callbacks.early import EarlyStop
from seglab.data.sampling import EpochSampler

Moment = tuple[str, int]
N_BATCHES, BATCH_SIZE, N_EPOCHS = 5, 2, 4
PLANS: dict[str, dict[str, Any]] = {
    "epochs": {},
    "steps": {"max_steps": 18, "interval": "epoch"},
    "accumulation": {"accumulate_grad_batches": 2},
    "validation_every_second_epoch": {"check_val_every_n_epoch": 2},
    "first_batches": {"limit_train_batches": 4},
}
MOMENTS: list[Moment] = [
    *(("on_train_batch_start", n) for n in (2, 4, 7, 9, 12, 17)),
    *(("on_train_batch_end", n) for n in (1, 3, 4, 8, 9, 16, 17)),  # 4 and 9: the last of an epoch of five
    *(("on_validation_batch_end", n) for n in (0, 1, 3)),
    *(("on_validation_start", n) for n in (0, 1)),
    *(("on_validation_end", n) for n in (0, 1)),
    *(("on_train_epoch_end", n) for n in (0, 1, 3)),
    *(("on_train_epoch_start", n) for n in (0, 1, 2)),
    ("on_train_end", 0),
]
FAST = {("on_train_batch_start", 7), ("on_train_batch_end", 4), ("on_validation_batch_end", 1), ("on_train_end", 0)}
ON_RECORD = ("on_train_batch_start", "on_train_epoch_start", "on_train_end", "on_validation_start")


class Numbers(Dataset[torch.Tensor]):
    """Sample (epoch, index) is [epoch, index]."""

    def __getitem__(self, key: tuple[int, int]) -> torch.Tensor:
        return torch.tensor(key, dtype=torch.float32)


class Data(LightningDataModule):
    """Eleven samples in batches of two, the eleventh left over, and a validation of two batches."""

    def __init__(self, cursor: Cursor, n_workers: int) -> None:
        super().__init__()
        self.cursor, self.n_workers = cursor, n_workers

    def train_dataloader(self) -> DataLoader[Any]:
        def start() -> tuple[int, int]:
            epoch, batch = self.cursor.next_batch()
            return epoch, batch * BATCH_SIZE

        sampler = EpochSampler(N_BATCHES * BATCH_SIZE + 1, seed=0, start=start, rank=0, world=1)
        workers = {"num_workers": self.n_workers, "persistent_workers": self.n_workers > 0}
        return DataLoader(Numbers(), sampler=sampler, batch_size=BATCH_SIZE, drop_last=True, **workers)

    def val_dataloader(self) -> DataLoader[Any]:
        return DataLoader(torch.tensor([[0.0, 1.0], [2.0, 3.0]]), batch_size=1)


class Rows(Logger):
    """Keeps what is logged."""

    name, version = "rows", 0

    def __init__(self, rows: list[Any]) -> None:
        super().__init__()
        self.rows = rows

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        self.rows.append((step, metrics))

    def log_hyperparams(self, *_: Any) -> None:
        return None


class Model(LightningModule):
    """Two weights; notes what it is trained and scored on, and what is logged."""

    def __init__(self, interval: str) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(2, 1, bias=False)
        torch.nn.init.constant_(self.layer.weight, 0.5)
        self.interval = interval
        self.events: list[Any] = []
        self.rows: list[Any] = []
        self.end: str = ""

    def training_step(self, batch: torch.Tensor, batch_idx: int) -> torch.Tensor:
        self.events.append((self.current_epoch, batch_idx, self.global_step, batch.tolist()))
        loss = self.layer(batch).square().mean()
        if (self.global_step + 1) % 3 == 0:
            self.log("step_loss", loss)
        return loss

    def validation_step(self, batch: torch.Tensor, batch_idx: int) -> None:
        self.events.append(("validation", batch_idx))
        self.log("score", -self.layer(batch).square().mean())

    def on_train_epoch_end(self) -> None:
        self.events.append(("end", self.current_epoch))
        self.log("epoch_end", float(self.current_epoch))

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.AdamW(self.parameters(), lr=0.01)
        scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 1 if self.interval == "epoch" else 3, gamma=0.9)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": self.interval}}


class Saver(Checkpoint):
    """Saves at chosen calls of hooks, and notes how many events and rows there were."""

    def __init__(self, folder: Path, moments: list[Moment]) -> None:
        self.folder, self.moments = folder, moments
        self.seen = dict.fromkeys((hook for hook, _ in moments), 0)
        self.places: dict[Moment, tuple[int, int]] = {}
        for hook in self.seen:
            setattr(self, hook, partial(self._save, hook))

    def file(self, moment: Moment) -> Path:
        return self.folder / f"{moment[0]}-{moment[1]}.ckpt"

    def _save(self, hook: str, trainer: Trainer, model: Model, *_: Any) -> None:
        moment = hook, self.seen[hook]
        self.seen[hook] += 1
        if moment in self.moments:
            trainer.save_checkpoint(self.file(moment))
            self.places[moment] = len(model.events), len(model.rows)


def fit(resume: Path | None = None, saver: Saver | None = None, workers: int = 0, **plan: Any) -> Model:
    """Train four epochs of five batches."""
    torch.manual_seed(7 if resume else 0)
    cursor, model = Cursor(), Model(plan.pop("interval", "step"))
    watcher = EarlyStop("score", plan.pop("mode", "max"), patience=plan.pop("patience", 100))
    quiet = ("enable_progress_bar", "enable_model_summary", "use_distributed_sampler", "num_sanity_val_steps")
    settings = {"max_epochs": N_EPOCHS, "log_every_n_steps": 3, **dict.fromkeys(quiet, False), **plan}
    trainer = Trainer(
        accelerator="cpu",
        logger=Rows(model.rows),
        callbacks=[cursor, watcher, *([saver] if saver else [])],
        enable_checkpointing=saver is not None,
        **settings,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trainer.fit(model, Data(cursor, workers), ckpt_path=resume)
    state = {
        "weight": model.layer.weight.tolist(),
        "optimizer": trainer.optimizers[0].state_dict(),
        "scheduler": trainer.lr_scheduler_configs[0].scheduler.state_dict(),
        "early_stopping": watcher.state_dict(),
        "next": cursor.next_batch(),
        "counts": (trainer.current_epoch, trainer.global_step),
    }
    model.end = str(state)
    return model


@pytest.fixture(scope="module")
def whole_runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Model, Saver]]:
    """Each plan trained to its end once, saving at every moment."""
    runs = {}
    for name, plan in PLANS.items():
        saver = Saver(tmp_path_factory.mktemp(name), MOMENTS)
        runs[name] = fit(saver=saver, **plan), saver
    return runs


def is_sound(plan: str, moment: Moment) -> bool:
    """Whether no gradient waits for its step, and the epoch neither for its first step nor for an end at once."""
    hook, number = moment
    n_batches = PLANS[plan].get("limit_train_batches", N_BATCHES)
    place = number % n_batches + (hook == "on_train_batch_end")
    waits = plan == "accumulation" and "train_batch" in hook and place % 2 == 1 and place < n_batches
    is_first = hook == "on_train_batch_start" and place == 0
    ends = (plan, number) in (("validation_every_second_epoch", 4), ("steps", 17)) and hook == "on_train_batch_end"
    return not (waits or is_first or ends)


def marked(plan: str, moment: Moment) -> Any:
    """A case of its own name, slow unless it is among the fast ones."""
    marks = [] if moment in FAST else [pytest.mark.slow]
    return pytest.param(plan, moment, id=f"{plan}-{moment[0]}-{moment[1]}", marks=marks)


CASES = [marked(plan, moment) for plan in PLANS for moment in MOMENTS if is_sound(plan, moment)]


@pytest.mark.parametrize(("plan", "moment"), CASES)
def test_a_training_goes_on_from_any_moment_as_if_never_stopped(
    plan: str, moment: Moment, whole_runs: dict[str, tuple[Model, Saver]]
) -> None:
    whole, saver = whole_runs[plan]
    if moment not in saver.places:
        pytest.skip("this plan ends before that moment")
    resumed = fit(saver.file(moment), **PLANS[plan])
    n_events, n_rows = saver.places[moment]
    is_in_validation = moment[0] == "on_validation_batch_end"  # which begins anew
    first_event = whole.events.index(("validation", 0), n_events - 2) if is_in_validation else n_events
    assert resumed.events == whole.events[first_event:]
    assert resumed.end == whole.end
    missing = len(whole.rows) - n_rows - len(resumed.rows)
    assert resumed.rows == whole.rows[n_rows + missing :]
    assert missing == 0 or (missing == 1 and moment[0] not in ON_RECORD), "logged after these hooks, by the stopped run"


@pytest.mark.parametrize(("saved_with", "resumed_with"), [(0, 2), (2, 0), (2, 2)])
@pytest.mark.slow
def test_workers_that_run_ahead_change_nothing(saved_with: int, resumed_with: int, tmp_path: Path) -> None:
    moments = [("on_train_batch_start", n) for n in (2, 7, 9)] + [("on_train_epoch_start", 1)]
    saver = Saver(tmp_path, moments)
    whole = fit(saver=saver, workers=saved_with)
    for moment in moments:
        resumed = fit(saver.file(moment), workers=resumed_with)
        assert resumed.events == whole.events[saver.places[moment][0] :] and resumed.end == whole.end


def test_the_cursor_counts_trained_batches_and_rolls_over_at_the_last_of_an_epoch() -> None:
    places = []

    class Watch(Checkpoint):
        def on_train_batch_start(self, trainer: Trainer, *_: Any) -> None:
            places.append(trainer.callbacks[0].next_batch())  # type: ignore[attr-defined]

        on_train_end = on_train_batch_start

    fit(saver=Watch(), max_epochs=2)  # type: ignore[arg-type]
    assert places == [(epoch, batch) for epoch in range(2) for batch in range(N_BATCHES)] + [(2, 0)]


@pytest.mark.parametrize("plan", [{"accumulate_grad_batches": 2}, {"limit_train_batches": 4}])
def test_another_number_of_batches_or_of_accumulated_ones_starts_the_epoch_over(
    plan: dict[str, int], whole_runs: dict[str, tuple[Model, Saver]], caplog: pytest.LogCaptureFixture
) -> None:
    _, saver = whole_runs["epochs"]
    with caplog.at_level("INFO", "seglab"):
        resumed = fit(saver.file(("on_train_batch_start", 7)), **plan)  # the third batch of the second epoch
    assert "epoch 1 starts over" in caplog.text
    trained = [event[:2] for event in resumed.events if isinstance(event[0], int)]
    n_batches = plan.get("limit_train_batches", N_BATCHES)
    assert trained == [(epoch, batch) for epoch in (1, 2, 3) for batch in range(n_batches)]


def test_a_finished_training_can_go_on_longer_and_begins_with_the_next_epoch(
    whole_runs: dict[str, tuple[Model, Saver]],
) -> None:
    _, saver = whole_runs["epochs"]
    for moment in (("on_train_epoch_end", 3), ("on_train_end", 0)):
        resumed = fit(saver.file(moment), max_epochs=N_EPOCHS + 1)
        assert [event[:2] for event in resumed.events[:N_BATCHES]] == [(4, batch) for batch in range(N_BATCHES)]
    assert fit(saver.file(("on_train_end", 0))).events == []


def test_an_epoch_that_max_steps_cut_short_counts_as_finished(tmp_path: Path) -> None:
    moment = ("on_train_end", 0)
    saver = Saver(tmp_path, [moment])
    fit(saver=saver, max_steps=N_BATCHES + 2)
    trained = [event[:2] for event in fit(saver.file(moment)).events if isinstance(event[0], int)]
    assert trained == [(epoch, batch) for epoch in (2, 3) for batch in range(N_BATCHES)]


def test_a_training_that_was_stopped_early_stays_stopped_unless_it_is_given_more_patience(tmp_path: Path) -> None:
    moment = ("on_train_epoch_end", 2)
    saver = Saver(tmp_path, [moment])
    whole = fit(saver=saver, patience=2, mode="min")  # the score rises from the first epoch on
    assert whole.events[-1] == ("end", 2)
    assert fit(saver.file(moment), patience=2, mode="min").events == []
    longer = fit(saver.file(moment), patience=3, mode="min").events
    assert [event for event in longer if event[0] == "end"] == [("end", 3)]
