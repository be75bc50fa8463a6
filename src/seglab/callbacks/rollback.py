"""Rollback: back to the weights and the optimizer of a checkpoint in mid-training, with a lower learning rate."""

from pathlib import Path
from typing import Any

from lightning import LightningModule, Trainer
from torch.optim import Optimizer

from seglab.callbacks.ema import WeightAverage


def roll_back(trainer: Trainer, pl_module: LightningModule, file: Path, lr_factor: float) -> tuple[int, float]:
    """Take weights, averages and moments from a checkpoint; place in the data, schedule and scores go on.

    Args:
        trainer: of the training.
        pl_module: of the training.
        file: the checkpoint, the same on all processes.
        lr_factor: on the learning rate.

    Returns:
        The step of the checkpoint, and the learning rate from now on.

    Raises:
        CheckpointError: the file is damaged.
    """
    checkpoint = trainer.strategy.load_checkpoint(file)
    pl_module.load_state_dict(checkpoint["state_dict"])
    averages: list[WeightAverage] = [c for c in trainer.callbacks if isinstance(c, WeightAverage)]  # type: ignore[attr-defined]
    for average in averages:
        average.on_load_checkpoint(trainer, pl_module, checkpoint)
        average.on_fit_start(trainer, pl_module)
    for optimizer, state in zip(trainer.optimizers, checkpoint["optimizer_states"], strict=True):
        restore(optimizer, state)
    scale_lr(trainer, lr_factor)
    return int(checkpoint["global_step"]), float(trainer.optimizers[0].param_groups[0]["lr"])


def restore(optimizer: Optimizer, state: dict[str, Any]) -> None:
    """Give an optimizer the moments of a checkpoint; learning rate and other settings stay as they are now.

    Args:
        optimizer: of the training.
        state: of the same optimizer.
    """
    now = [{key: value for key, value in group.items() if key != "params"} for group in optimizer.param_groups]
    optimizer.load_state_dict(state)
    for group, settings in zip(optimizer.param_groups, now, strict=True):
        group.update(settings)


def scale_lr(trainer: Trainer, factor: float) -> None:
    """Multiply the learning rate now and for the rest of the schedule.

    Args:
        trainer: of the training; its schedules are factors on a base rate, as those of conf/scheduler are.
        factor: on the learning rate.
    """
    for optimizer in trainer.optimizers:
        for group in optimizer.param_groups:
            group.update({key: group[key] * factor for key in ("lr", "initial_lr") if key in group})
    for config in trainer.lr_scheduler_configs:
        if hasattr(config.scheduler, "base_lrs"):
            config.scheduler.base_lrs = [rate * factor for rate in config.scheduler.base_lrs]
