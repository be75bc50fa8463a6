"""ExactMean: the mean by hand, whatever the order and the shares."""

import itertools
import math
from fractions import Fraction

import pytest
import torch

from seglab.metrics.mean import ExactMean

TERMS = [(0.1, 3), (1e8, 1), (0.7, 8), (-1e8, 1), (1e-8, 5)]


def mean_of(terms: list[tuple[float, int]]) -> float:
    mean = ExactMean()
    for value, weight in terms:
        mean.update(torch.tensor(value), weight)
    return float(mean.compute())


def test_it_is_the_exact_mean_rounded_once() -> None:
    exact = sum(Fraction(float(torch.tensor(value))) * weight for value, weight in TERMS) / 18
    assert mean_of(TERMS) == pytest.approx(float(exact), rel=1e-15)
    assert mean_of([(0.5, 1), (2.0, 3)]) == 1.625


def test_the_order_of_the_terms_changes_nothing() -> None:
    assert len({mean_of(list(order)) for order in itertools.permutations(TERMS)}) == 1


def test_nothing_has_no_mean_nan_stays_and_a_reset_begins_anew() -> None:
    mean = ExactMean()
    mean.update(torch.tensor(math.nan), 1)
    assert math.isnan(mean.compute())
    mean.reset()
    mean.update(torch.tensor(3.0, requires_grad=True), 2)
    assert mean.compute() == 3.0
    assert math.isnan(mean_of([]))
