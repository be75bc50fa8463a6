"""WeightAverage: an exponential moving average of the weights, which is what is scored and kept."""

from itertools import chain
from typing import Any, cast

import torch
from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.strategies import FSDPStrategy
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

from seglab.errors import ConfigError

Tensors = dict[str, Tensor]


class WeightAverage(Callback):
    """Averages the network's weights and running statistics over the steps; validation sees the averages.

    After each optimizer step, average = decay * average + (1 - decay) * weights. A checkpoint holds the averages as its
    weights, so that whatever opens it gets what was scored, and beside them the trained weights, from which a resume
    goes on. Source: Tarvainen and Valpola 2017 (https://arxiv.org/abs/1703.01780).

    Running statistics are averaged like weights. Like the trained ones they differ from process to process until they
    are averaged over processes when a scoring starts; Lightning's EMAWeightAveraging (2.6.6) puts its averages in place
    after that moment, so that each process would score another network.

    Args:
        decay: weight of the past; the average is over about 1 / (1 - decay) steps.
        start_step: optimizer steps before the averaging begins; until then the average is the weights.

    Raises:
        ConfigError: a decay that is none, or a negative start.
    """

    def __init__(self, decay: float = 0.999, start_step: int = 0) -> None:
        if not 0 <= decay < 1 or start_step < 0:
            raise ConfigError(
                "weights cannot be averaged like this",
                given=f"callbacks.ema.decay={decay}, callbacks.ema.start_step={start_step}",
                allowed="a decay from 0 up and below 1, a start_step from 0 up",
                fix="set callbacks.ema.decay=0.999 callbacks.ema.start_step=0",
            )
        self.start_step = start_step
        self._average = get_ema_multi_avg_fn(decay)  # type: ignore[no-untyped-call]
        self._step = 0
        self._aside: Tensors = {}  # the averages, or the trained weights while a scoring runs
        self._trained: Tensors = {}  # what a resume goes on from
        self._is_scoring = False

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Refuse a network in shards, of which no process has the weights.

        Raises:
            ConfigError: names the strategy that keeps them whole.
        """
        if isinstance(trainer.strategy, FSDPStrategy):
            raise ConfigError(
                "weights in shards cannot be averaged",
                given="callbacks.ema with trainer.strategy=fsdp",
                allowed="callbacks.ema with trainer.strategy=ddp, or fsdp without it",
                fix="leave ema out of callbacks=[...], or set trainer.strategy=ddp",
            )

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begin with the weights as they are, or go on with the averages of the checkpoint."""
        live = _tensors(pl_module)
        self._aside = {name: self._aside.get(name, value).to(value.device, copy=True) for name, value in live.items()}

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Go on with the running statistics of this process, which had those of rank 0 till now."""
        take_trained(pl_module, self._trained)
        self._trained = {}

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Take an optimizer step into the average."""
        if trainer.global_step == self._step:
            return
        self._step = trainer.global_step
        if self._step <= self.start_step:
            _copy(_tensors(pl_module), self._aside)
        else:
            self._average(list(self._aside.values()), list(_tensors(pl_module).values()), self._step)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Put the averages into the network."""
        self._is_scoring = True
        self._swap(pl_module)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Put the trained weights back."""
        self._swap(pl_module)
        self._is_scoring = False

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Make the averages the weights of the checkpoint, and add what the training goes on from."""
        if not self._is_scoring:
            self._swap(pl_module)
        net, average = cast(nn.Module, pl_module.net), _tensors(pl_module)
        checkpoint["state_dict"].update({k: v.detach().clone() for k, v in net.state_dict(prefix="net.").items()})
        local = {name for name, _ in net.named_buffers()} & average.keys() if trainer.world_size > 1 else set()
        checkpoint["ema"] = {
            "step": self._step,
            "trained": {name: value.clone() for name, value in self._aside.items()},
            "trained_by_rank": pl_module.all_gather({name: self._aside[name] for name in sorted(local)}),
            "average_by_rank": pl_module.all_gather({name: average[name] for name in sorted(local)}),
        }
        if not self._is_scoring:
            self._swap(pl_module)

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Take up trained weights and averages; from a checkpoint without averages they begin with its weights."""
        state = checkpoint.get("ema")
        if state is None:
            return
        self._trained = dict(state["trained"])
        self._aside = {name: checkpoint["state_dict"][f"net.{name}"].clone() for name in self._trained}
        for tensors, by_rank in ((self._trained, state["trained_by_rank"]), (self._aside, state["average_by_rank"])):
            own = {name: rows[trainer.global_rank] for name, rows in by_rank.items() if len(rows) == trainer.world_size}
            tensors.update(own)
        self._step = state["step"]
        take_trained(pl_module, self._trained)

    def _swap(self, pl_module: LightningModule) -> None:
        live = _tensors(pl_module)
        held = {name: value.clone() for name, value in live.items()}
        _copy(self._aside, live)
        _copy(held, self._aside)


def take_trained(pl_module: LightningModule, trained: Tensors) -> None:
    """Go on with trained weights in place of the averages that a checkpoint holds as its weights.

    Args:
        pl_module: of the training.
        trained: as under "ema" in a checkpoint.
    """
    _copy(trained, _tensors(pl_module))


def _tensors(pl_module: LightningModule) -> Tensors:
    """What is averaged, each once: floating-point parameters and buffers of the network that a checkpoint holds."""
    net = cast(nn.Module, pl_module.net)
    kept = net.state_dict().keys()
    found = chain(net.named_parameters(), net.named_buffers())
    return {name: value.detach() for name, value in found if name in kept and value.is_floating_point()}


@torch.no_grad()
def _copy(source: Tensors, target: Tensors) -> None:
    for name, value in source.items():
        target[name].copy_(value)
