"""PreciseBatchNorm: running statistics measured anew before what they normalise is scored or kept."""

from typing import Any, cast

import torch
from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.trainer.states import TrainerFn
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from seglab.errors import ConfigError


class PreciseBatchNorm(Callback):
    """Measures the statistics of batch normalisation over training batches, with the weights as they are now.

    The running averages of a training lag behind its weights: in a short training, or while the weights still change
    fast, a network may score far below what it has learnt, down to one class everywhere. The measurement passes
    training batches through the network without a gradient, in training mode, and takes the plain mean of their
    statistics. It does so before each validation, and where there is none, at the end of the last epoch. Training
    itself never uses running statistics, so its weights stay the same to the last bit. List it behind `ema`, whose
    averaged weights are then what is measured. Source: Wu and Johnson 2021 (https://arxiv.org/abs/2105.07576).

    Args:
        n_batches: training batches of each process to measure over; None for a whole epoch, a third of its time.

    Raises:
        ConfigError: no batches.
    """

    def __init__(self, n_batches: int | None = None) -> None:
        if n_batches is not None and n_batches < 1:
            raise ConfigError(
                "statistics are measured over at least one batch",
                given=f"callbacks.batch_norm.n_batches={n_batches}",
                allowed="an integer from 1 up, or null for a whole epoch",
                fix="set callbacks.batch_norm.n_batches=null",
            )
        self.n_batches = n_batches

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Refuse a network without batch normalisation.

        Raises:
            ConfigError: nothing to measure.
        """
        if not _layers(pl_module):
            raise ConfigError(
                "there are no running statistics to measure",
                given=f"callbacks.batch_norm with {type(pl_module.net).__name__}",
                allowed="networks with batch normalisation",
                fix="set callbacks.batch_norm=null",
            )

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Measure what is about to be scored."""
        if trainer.state.fn == TrainerFn.FITTING and not trainer.sanity_checking:
            self._measure(trainer, pl_module)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Measure what is kept at the end of a training without validation."""
        is_last = trainer.current_epoch + 1 == trainer.max_epochs
        if is_last and sum(trainer.num_val_batches) == 0:
            self._measure(trainer, pl_module)

    @torch.no_grad()
    def _measure(self, trainer: Trainer, pl_module: LightningModule) -> None:
        task, layers = cast(Any, pl_module), _layers(pl_module)
        momenta, was_training = [layer.momentum for layer in layers], task.net.training
        for layer in layers:
            layer.reset_running_stats()
            layer.momentum = None  # the plain mean of all batches
        task.net.train()
        for number, batch in enumerate(cast(Any, trainer.train_dataloader)):
            if number == self.n_batches:
                break
            task.on_train_batch_start(batch, number)  # draws the noise of dropout from its place
            # a measurement is not worth the time that compiling it would take
            with torch.compiler.set_stance("force_eager"), trainer.precision_plugin.forward_context():
                task.training_losses(task.prepare(trainer.strategy.batch_to_device(batch)))
        task.net.train(was_training)
        for layer, momentum in zip(layers, momenta, strict=True):
            layer.momentum = momentum


def _layers(pl_module: LightningModule) -> list[_BatchNorm]:
    """Layers of the network that keep running statistics."""
    net = cast(nn.Module, pl_module.net)
    return [each for each in net.modules() if isinstance(each, _BatchNorm) and each.track_running_stats]
