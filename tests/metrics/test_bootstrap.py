"""The interval of a mean: seeded, over groups, and as wide as theory says."""

import math

import numpy as np
import pytest

from seglab.metrics.bootstrap import interval


def test_interval_of_many_cases_is_that_of_the_normal_distribution() -> None:
    values = np.random.default_rng(0).normal(0.7, 0.1, 400)
    low, high = interval(values.tolist(), range(400))
    half = 1.96 * values.std() / math.sqrt(400)
    assert (low, high) == pytest.approx((values.mean() - half, values.mean() + half), abs=0.002)


def test_same_values_give_the_same_interval_in_any_order() -> None:
    values, groups = np.random.default_rng(1).random(40).tolist(), [n % 20 for n in range(40)]
    assert interval(values, groups) == interval(values[::-1], groups[::-1]) != interval(values, groups, seed=1)


def test_cases_of_one_group_count_as_one_draw() -> None:
    values = [0.2] * 50 + [0.8] * 50
    by_case, by_group = interval(values, range(100)), interval(values, ["a"] * 50 + ["b"] * 50)
    assert by_group == pytest.approx((0.2, 0.8))
    assert by_case[1] - by_case[0] < 0.25


def test_one_group_has_no_interval() -> None:
    assert all(math.isnan(end) for end in interval([0.5, 0.6], ["a", "a"]))
    assert all(math.isnan(end) for end in interval([], []))
