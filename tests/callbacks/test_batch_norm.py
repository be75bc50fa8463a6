"""PreciseBatchNorm: statistics are those of the training batches under the scored weights; training does not notice."""

import warnings
from collections.abc import Iterable
from typing import Any

import pytest
import torch
from lightning import Callback, LightningModule, Trainer
from torch import Tensor, nn
from torch.utils.data import DataLoader

from seglab.callbacks.batch_norm import PreciseBatchNorm
from seglab.callbacks.ema import WeightAverage
from seglab.errors import ConfigError

DATA = torch.randn(12, 2, generator=torch.Generator().manual_seed(0))
BATCHES = DATA.split(4)


class Model(LightningModule):
    """A layer whose output is normalised; notes its network whenever it is scored."""

    def __init__(self, *, norm: bool = True) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.net = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3) if norm else nn.Identity(), nn.Linear(3, 1))
        self.scored = list[nn.Module]()

    def prepare(self, batch: Tensor) -> Tensor:
        return batch

    def training_losses(self, batch: Tensor) -> dict[str, Tensor]:
        return {"loss": self.net(batch).square().mean()}

    def training_step(self, batch: Tensor, batch_idx: int) -> Tensor:
        return self.training_losses(batch)["loss"]

    def validation_step(self, batch: Tensor, batch_idx: int) -> None:
        self.scored.append(copy_of(self.net))

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


def copy_of(net: nn.Module) -> nn.Module:
    twin = Model().net
    twin.load_state_dict(net.state_dict())
    return twin


def fit(*callbacks: Callback, validate: bool = True) -> Model:
    """Two epochs of three steps, each with a validation or none."""
    model = Model()
    quiet = ("logger", "enable_progress_bar", "enable_model_summary", "enable_checkpointing", "num_sanity_val_steps")
    settings: dict[str, Any] = {"max_epochs": 2, **dict.fromkeys(quiet, False)}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trainer = Trainer(accelerator="cpu", callbacks=list(callbacks), **settings)
        trainer.fit(model, DataLoader(DATA, batch_size=4), DataLoader(DATA[:2]) if validate else [])
    return model


def measured(net: nn.Module, batches: Iterable[Tensor]) -> tuple[Tensor, Tensor]:
    """The definition: the mean over batches of the mean and of the unbiased variance of what the layer is given."""
    seen = [net[0](batch) for batch in batches]  # type: ignore[index]
    means, variances = [each.mean(0) for each in seen], [each.var(0) for each in seen]
    return torch.stack(means).mean(0), torch.stack(variances).mean(0)


@pytest.mark.parametrize("n_batches", [None, 2])
def test_what_is_scored_has_the_statistics_of_training_batches_under_its_weights(n_batches: int | None) -> None:
    model = fit(PreciseBatchNorm(n_batches))
    assert len(model.scored) == 4
    for net in model.scored:
        mean, variance = measured(net, BATCHES[:n_batches])
        torch.testing.assert_close(net[1].running_mean, mean)  # type: ignore[index]
        torch.testing.assert_close(net[1].running_var, variance)  # type: ignore[index]


def test_the_training_does_not_notice_and_goes_on_with_its_own_momentum() -> None:
    plain, precise = fit(), fit(PreciseBatchNorm())
    for one, two in zip(plain.parameters(), precise.parameters(), strict=True):
        assert torch.equal(one, two)
    assert not torch.equal(plain.net[1].running_mean, precise.net[1].running_mean)
    assert precise.net[1].momentum == plain.net[1].momentum == 0.1


def test_without_validation_the_last_state_is_measured() -> None:
    model = fit(PreciseBatchNorm(), validate=False)
    mean, _ = measured(model.net, BATCHES)
    torch.testing.assert_close(model.net[1].running_mean, mean)


def test_behind_averaged_weights_it_is_these_that_are_measured() -> None:
    for net in fit(WeightAverage(0.7), PreciseBatchNorm()).scored:
        torch.testing.assert_close(net[1].running_mean, measured(net, BATCHES)[0])  # type: ignore[index]


def test_a_network_without_batch_norm_and_an_empty_measurement_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"callbacks\.batch_norm=null"):
        PreciseBatchNorm().on_fit_start(None, Model(norm=False))  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="n_batches=null"):
        PreciseBatchNorm(0)
