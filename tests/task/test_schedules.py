"""Learning-rate schedules: factors computed by hand at the start, at the turning points and at the end."""

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch

from seglab.task.schedules import constant, cosine, one_cycle, poly, step


def rates(make: Callable[..., Any], n_steps: int) -> list[float]:
    """Learning rate of each of the steps 0 to n_steps, where the optimizer's own is 2."""
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=2.0)
    schedule = make(optimizer, total_steps=n_steps)
    found = []
    for _ in range(n_steps + 1):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    return found


def test_constant_never_changes() -> None:
    assert rates(constant, 5) == [2.0] * 6


def test_cosine_warms_up_linearly_and_falls_to_its_final_factor() -> None:
    found = rates(partial(cosine, warmup=0.1, final=0.02), 100)
    assert found[0] == pytest.approx(2 * 0.01)
    assert found[5] == pytest.approx(2 * 0.5) and found[10] == pytest.approx(2.0)
    assert found[55] == pytest.approx(2 * (0.02 + 0.98 / 2))  # half way down
    assert found[100] == pytest.approx(2 * 0.02)
    assert found[10:] == sorted(found[10:], reverse=True)


def test_cosine_without_warm_up_starts_at_the_full_rate() -> None:
    assert rates(partial(cosine, warmup=0.0), 10)[0] == 2.0


def test_poly_is_the_remaining_share_to_the_power() -> None:
    found = rates(partial(poly, power=0.9), 4)
    assert found == pytest.approx([2 * (1 - step / 4) ** 0.9 for step in range(5)])
    assert found[4] == 0.0


def test_step_changes_the_rate_at_the_end_of_each_period_and_nowhere_else() -> None:
    found = rates(partial(step, period=0.25, factor=0.5), 8)
    assert found == [2.0, 2.0, 1.0, 1.0, 0.5, 0.5, 0.25, 0.25, 0.125]


@pytest.mark.parametrize(("n_steps", "period"), [(30, 0.1), (300, 0.01), (30_000, 0.7)])
def test_step_changes_at_multiples_of_its_period_whatever_the_rounding(n_steps: int, period: float) -> None:
    found = rates(partial(step, period=period, factor=0.1), n_steps)
    changes = [index for index in range(1, n_steps + 1) if found[index] < 0.99 * found[index - 1]]
    assert changes == [round(n_steps * period * times) for times in range(1, int(1 / period) + 1)]


def test_step_with_a_period_of_the_whole_training_keeps_the_rate() -> None:
    assert rates(partial(step, period=1.0, factor=0.1), 5)[:5] == [2.0] * 5


def test_one_cycle_rises_to_the_rate_and_falls_below_its_start() -> None:
    found = rates(partial(one_cycle, rise=0.3, start=0.04, final=0.001), 100)
    assert found[0] == pytest.approx(2 * 0.04) and found[30] == pytest.approx(2.0)
    assert found[15] == pytest.approx(2 * (1 + 0.04) / 2) and found[65] == pytest.approx(2 * (1 + 0.001) / 2)
    assert found[100] == pytest.approx(2 * 0.001)


@pytest.mark.parametrize("make", [constant, cosine, poly, step, one_cycle])
def test_a_schedule_is_finite_beyond_its_end_and_for_a_single_step(make: Callable[..., Any]) -> None:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    schedule = make(optimizer, total_steps=1)
    for _ in range(3):
        optimizer.step()
        schedule.step()
        assert math.isfinite(optimizer.param_groups[0]["lr"]) and optimizer.param_groups[0]["lr"] >= 0
    assert make(optimizer, total_steps=0) is not None
