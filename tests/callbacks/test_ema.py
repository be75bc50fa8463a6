"""WeightAverage: hand-computed averages are what is scored and kept; the training itself does not notice them."""

import warnings
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint
from lightning.pytorch.strategies import FSDPStrategy
from torch import Tensor, nn
from torch.utils.data import DataLoader, Sampler

from seglab.callbacks.cursor import Cursor
from seglab.callbacks.ema import WeightAverage
from seglab.errors import ConfigError

N_STEPS, BATCH_SIZE = 6, 4


class Net(nn.Module):
    """A layer, running statistics, and the layer's weight under a second name."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(2, 2)
        self.norm = nn.BatchNorm1d(2)
        self.tied = nn.Linear(2, 2, bias=False)
        self.tied.weight = self.layer.weight
        self.register_buffer("constant", torch.ones(1), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.tied(self.norm(self.layer(x)))  # type: ignore[no-any-return]


class Model(LightningModule):
    """Notes the state of its network after each step and in each validation."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.net = Net()
        self.trained: list[dict[str, Tensor]] = []
        self.scored: list[dict[str, Tensor]] = []

    def state(self) -> dict[str, Tensor]:
        return {name: value.clone() for name, value in self.net.state_dict().items()}

    def training_step(self, batch: Tensor, batch_idx: int) -> Tensor:
        return self.net(batch).square().mean()  # type: ignore[no-any-return]

    def on_train_batch_end(self, *_: Any) -> None:
        self.trained.append(self.state())

    def validation_step(self, batch: Tensor, batch_idx: int) -> None:
        self.scored.append(self.state())

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.AdamW(self.parameters(), lr=0.1)


class Keep(Checkpoint):
    """Saves before the fourth step and in a validation."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def on_train_batch_start(self, trainer: Trainer, *_: Any) -> None:
        if trainer.global_step == 4:
            trainer.save_checkpoint(self.folder / "within.ckpt")

    def on_validation_batch_end(self, trainer: Trainer, *_: Any) -> None:
        trainer.save_checkpoint(self.folder / "scoring.ckpt")

    def on_validation_end(self, trainer: Trainer, *_: Any) -> None:
        trainer.save_checkpoint(self.folder / "scored.ckpt")


class Rest(Sampler[int]):
    """The samples behind those that were trained."""

    def __init__(self, cursor: Cursor) -> None:
        self.cursor = cursor

    def __iter__(self) -> Iterator[int]:
        return iter(range(BATCH_SIZE * self.cursor.next_batch()[1], len(self)))

    def __len__(self) -> int:
        return N_STEPS * BATCH_SIZE


def fit(*callbacks: Callback, resume: Path | None = None) -> Model:
    """One epoch of six steps and a validation."""
    model, cursor = Model(), Cursor()
    data = torch.randn(N_STEPS * BATCH_SIZE, 2, generator=torch.Generator().manual_seed(0))
    quiet = ("logger", "enable_progress_bar", "enable_model_summary", "num_sanity_val_steps")
    settings: dict[str, Any] = {"max_epochs": 1, **dict.fromkeys(quiet, False)}
    settings["enable_checkpointing"] = any(isinstance(callback, Checkpoint) for callback in callbacks)
    trainer = Trainer(accelerator="cpu", callbacks=[cursor, *callbacks], **settings)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        loader = DataLoader(data, batch_size=BATCH_SIZE, sampler=Rest(cursor))
        trainer.fit(model, loader, DataLoader(data[:2]), ckpt_path=resume)
    return model


def averages(states: list[dict[str, Tensor]], decay: float, start: int) -> Iterator[dict[str, Tensor]]:
    """The definition, value by value; integers are those of the training."""
    mean = {name: value.clone() for name, value in states[0].items()}
    for step, state in enumerate(states, start=1):
        for name, value in state.items():
            is_copied = step <= start or not value.is_floating_point()
            mean[name] = value if is_copied else decay * mean[name] + (1 - decay) * value
        yield dict(mean)


@pytest.mark.parametrize(("decay", "start"), [(0.5, 1), (0.9, 3), (0.0, 0), (0.5, 100)])
def test_the_validation_sees_the_average_of_weights_and_statistics_and_the_training_goes_on_as_without(
    decay: float, start: int
) -> None:
    plain, averaged = fit(), fit(WeightAverage(decay, start))
    for one, two in zip(plain.trained, averaged.trained, strict=True):
        assert all(torch.equal(one[name], two[name]) for name in one)
    *_, expected = averages(averaged.trained, decay, start)
    for name, value in expected.items():
        torch.testing.assert_close(averaged.scored[0][name], value, rtol=1e-6, atol=1e-7)
    is_plain = start > N_STEPS or decay == 0
    assert torch.equal(averaged.scored[0]["norm.running_var"], plain.scored[0]["norm.running_var"]) == is_plain
    assert all(torch.equal(averaged.state()[name], value) for name, value in plain.state().items()), "put back"


def test_a_checkpoint_holds_what_was_scored_and_the_trained_weights_beside_it(tmp_path: Path) -> None:
    model = fit(WeightAverage(0.5), Keep(tmp_path))
    for name in ("scoring", "scored"):
        content = torch.load(tmp_path / f"{name}.ckpt", weights_only=True)
        for key, value in model.scored[0].items():
            assert torch.equal(content["state_dict"][f"net.{key}"], value), key
        for key, value in content["ema"]["trained"].items():
            assert torch.equal(model.trained[-1][key], value), key
        assert not torch.equal(model.trained[-1]["layer.weight"], model.scored[0]["layer.weight"])
        assert "constant" not in content["ema"]["trained"] and "tied.weight" not in content["ema"]["trained"]


def test_a_resume_goes_on_with_weights_and_averages_to_the_last_bit(tmp_path: Path) -> None:
    whole = fit(WeightAverage(0.7, 2), Keep(tmp_path))
    resumed = fit(WeightAverage(0.7, 2), resume=tmp_path / "within.ckpt")
    for one, two in ((whole.trained[-1], resumed.trained[-1]), (whole.scored[0], resumed.scored[0])):
        assert all(torch.equal(one[name], two[name]) for name in one)


def test_averaging_that_begins_at_a_resume_begins_with_the_weights(tmp_path: Path) -> None:
    fit(Keep(tmp_path))
    resumed = fit(WeightAverage(0.5), resume=tmp_path / "within.ckpt")
    start = torch.load(tmp_path / "within.ckpt", weights_only=True)["state_dict"]["net.layer.bias"]
    expected = 0.25 * start + 0.25 * resumed.trained[0]["layer.bias"] + 0.5 * resumed.trained[1]["layer.bias"]
    torch.testing.assert_close(resumed.scored[0]["layer.bias"], expected)


def test_a_resume_without_averaging_goes_on_with_the_trained_weights(tmp_path: Path) -> None:
    whole = fit(WeightAverage(0.7), Keep(tmp_path))
    resumed = fit(resume=tmp_path / "within.ckpt")
    assert all(torch.equal(value, resumed.trained[-1][name]) for name, value in whole.trained[-1].items())
    assert all(torch.equal(value, resumed.scored[0][name]) for name, value in whole.trained[-1].items())


@pytest.mark.parametrize("arguments", [{"decay": 1.0}, {"decay": -0.1}, {"start_step": -1}])
def test_an_average_that_cannot_be_is_refused(arguments: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match="averaged") as caught:
        WeightAverage(**arguments)  # type: ignore[arg-type]
    assert "callbacks.ema.decay=0.999" in caught.value.fix


def test_weights_in_shards_are_refused() -> None:
    trainer = SimpleNamespace(strategy=FSDPStrategy())
    with pytest.raises(ConfigError, match=r"trainer\.strategy=ddp"):
        WeightAverage().setup(trainer, Model(), "fit")  # type: ignore[arg-type]  # all that is asked of it
