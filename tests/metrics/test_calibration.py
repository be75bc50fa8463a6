"""Calibration by hand, and sums that do not depend on how pixels are shared out."""

import math

import numpy as np
import pytest

from seglab.errors import ShapeError
from seglab.metrics.calibration import Calibration


def measured(probs: list[list[float]], mask: list[int]) -> Calibration:
    found = Calibration()
    found.update(np.array(probs, np.float32), np.array(mask, np.uint8))
    return found


def test_sure_and_right_is_perfect_and_sure_and_wrong_the_worst() -> None:
    right, wrong = measured([[1, 0], [0, 1]], [0, 1]), measured([[1, 0], [0, 1]], [1, 0])
    assert (right.ece, right.brier) == (0, 0)
    assert (wrong.ece, wrong.brier) == (1, 2)


def test_two_bins_by_hand_and_ignored_pixels_count_nowhere() -> None:
    found = measured([[0.9, 0.9, 0.6, 0.2], [0.1, 0.1, 0.4, 0.8]], [0, 1, 0, 255])
    assert found.n == 3
    assert found.ece == pytest.approx((2 * abs(0.9 - 0.5) + abs(0.6 - 1)) / 3)
    assert found.brier == pytest.approx((0.02 + 2 * 0.81 + 2 * 0.16) / 3)
    assert [(round(conf, 6), share, n) for conf, share, n in found.curve()] == [(0.6, 1.0, 1), (0.9, 0.5, 2)]


def test_parts_add_up() -> None:
    rng = np.random.default_rng(0)
    probs, mask = rng.dirichlet([1, 1, 1], 600).T, rng.integers(0, 3, 600).astype(np.uint8)
    whole = measured(probs.tolist(), mask.tolist())
    parts = measured(probs[:, :100].tolist(), mask[:100].tolist()) + measured(
        probs[:, 100:].tolist(), mask[100:].tolist()
    )
    assert (parts.ece, parts.brier) == pytest.approx((whole.ece, whole.brier))
    assert whole.brier == pytest.approx(((probs - np.eye(3)[mask].T) ** 2).sum(axis=0).mean())


def test_nothing_is_nan_and_what_does_not_fit_is_refused() -> None:
    assert math.isnan(Calibration().ece) and math.isnan(Calibration().brier)
    with pytest.raises(ShapeError, match="same grid"):
        measured([[0.5, 0.5], [0.5, 0.5]], [0])
