"""Learning-rate schedules over a whole training, step by step; the number of steps comes from the trainer."""

import math
from collections.abc import Callable

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR


def constant(optimizer: Optimizer, *, total_steps: int) -> LambdaLR:
    """Constant: the learning rate of the optimizer throughout."""
    return _schedule(optimizer, total_steps, lambda _: 1.0)


def cosine(optimizer: Optimizer, *, total_steps: int, warmup: float = 0.05, final: float = 0.01) -> LambdaLR:
    """Cosine: linear warm-up, then half a cosine down (Loshchilov and Hutter 2017, without restarts).

    Args:
        optimizer: whose learning rate is scaled.
        total_steps: optimizer steps of the training.
        warmup: share of the steps for the warm-up.
        final: last factor.
    """

    def factor(progress: float) -> float:
        """Share of the highest learning rate, of the progress from 0 to 1."""
        if progress < warmup:
            return max(progress / warmup, 0.01)
        done = (progress - warmup) / (1 - warmup)
        return final + (1 - final) * (1 + math.cos(math.pi * done)) / 2

    return _schedule(optimizer, total_steps, factor)


def poly(optimizer: Optimizer, *, total_steps: int, power: float = 0.9) -> LambdaLR:
    """Polynomial: (1 - progress) ** power, as in DeepLab and nnU-Net.

    Args:
        optimizer: whose learning rate is scaled.
        total_steps: optimizer steps of the training.
        power: exponent.
    """
    return _schedule(optimizer, total_steps, lambda progress: (1 - progress) ** power)


def step(optimizer: Optimizer, *, total_steps: int, period: float = 0.25, factor: float = 0.5) -> LambdaLR:
    """Steps: the learning rate times `factor` after each period.

    Args:
        optimizer: its learning rate is that of the first period.
        total_steps: optimizer steps of the training.
        period: share of the steps between two changes.
        factor: of each change.
    """

    def product(progress: float) -> float:
        """Share of the first learning rate, of the progress from 0 to 1."""
        n_changes = math.floor(progress / period + 1e-9)  # 0.3 / 0.1 falls short of 3
        return factor**n_changes

    return _schedule(optimizer, total_steps, product)


def one_cycle(
    optimizer: Optimizer, *, total_steps: int, rise: float = 0.3, start: float = 0.04, final: float = 0.0001
) -> LambdaLR:
    """One-cycle: up to the learning rate and down again, both by a cosine (Smith 2018).

    Args:
        optimizer: its learning rate is the peak.
        total_steps: optimizer steps of the training.
        rise: share of the steps on the way up.
        start: first factor.
        final: last factor.
    """

    def factor(progress: float) -> float:
        """Share of the highest learning rate, of the progress from 0 to 1."""
        if progress < rise:
            return _ease(start, 1.0, progress / rise)
        return _ease(1.0, final, (progress - rise) / (1 - rise))

    return _schedule(optimizer, total_steps, factor)


def _schedule(optimizer: Optimizer, total_steps: int, factor: Callable[[float], float]) -> LambdaLR:
    return LambdaLR(optimizer, lambda step: factor(min(step / max(total_steps, 1), 1.0)))


def _ease(first: float, last: float, progress: float) -> float:
    return last + (first - last) * (1 + math.cos(math.pi * progress)) / 2
