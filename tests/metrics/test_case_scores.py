"""Scores per case: what counts as missed, invented or empty, and what is in a mean."""

import math

import pytest
import torch

from seglab.metrics.cases import case_scores, summarise
from seglab.metrics.confusion import count

NAMES = ("background", "liver", "tumour")


def row(pred: list[int], mask: list[int]) -> dict[str, float]:
    return case_scores(count(torch.tensor(pred), torch.tensor(mask), 3), NAMES, has_background=True)


PERFECT = row([0, 1, 1, 2], [0, 1, 1, 2])
HALF = row([0, 1, 1, 0], [0, 1, 0, 0])  # liver 2/3, tumour in neither
MISSED = row([0, 1, 0, 0], [0, 1, 0, 2])
INVENTED = row([2, 1, 0, 0], [0, 1, 0, 0])


def test_a_row_has_scores_and_pixels_of_the_foreground_classes() -> None:
    assert HALF["dice/liver"] == pytest.approx(2 / 3)
    assert (HALF["n_true/liver"], HALF["n_pred/liver"]) == (1, 2)
    assert math.isnan(HALF["dice/tumour"]) and HALF["n_true/tumour"] == 0
    assert not any(key.endswith("background") for key in HALF)
    assert len(HALF) == 2 * 6


def test_class_zero_has_its_place_where_it_is_no_background() -> None:
    found = case_scores(torch.eye(3, dtype=torch.int64), NAMES, has_background=False)
    assert found["dice/background"] == 1


def test_missed_and_invented_cases_count_zero_and_empty_ones_are_counted_apart() -> None:
    result = summarise([PERFECT, HALF, MISSED, INVENTED], NAMES, has_background=True)
    assert result["case_dice/tumour"] == pytest.approx(1 / 3)
    assert [result[f"case_dice/tumour/{what}"] for what in ("n", "n_missed", "n_false", "n_empty")] == [3, 1, 1, 1]
    assert result["case_dice/liver"] == pytest.approx((1 + 2 / 3 + 1 + 1) / 4)
    assert [result[f"case_iou/liver/{what}"] for what in ("n", "n_missed", "n_false", "n_empty")] == [4, 0, 0, 0]
    assert result["case_iou/liver"] == pytest.approx((1 + 1 / 2 + 1 + 1) / 4)
    assert result["case_dice/mean"] == pytest.approx((1 / 3 + 11 / 12) / 2)


def test_case_mean_weighs_cases_not_pixels() -> None:
    small, large = row([0, 1], [1, 0]), row([1] * 9, [1] * 9)
    assert summarise([small, large], NAMES, has_background=True)["case_dice/liver"] == 0.5


def test_a_class_without_any_case_is_nan_and_not_in_the_mean() -> None:
    result = summarise([HALF], NAMES, has_background=True)
    assert math.isnan(result["case_dice/tumour"]) and result["case_dice/tumour/n"] == 0
    assert result["case_dice/mean"] == pytest.approx(2 / 3)


def test_no_cases_give_nan() -> None:
    assert math.isnan(summarise([], NAMES, has_background=True)["case_dice/mean"])


def test_order_of_cases_does_not_matter() -> None:
    rows = [PERFECT, HALF, MISSED, INVENTED]
    forward, backward = (summarise(given, NAMES, has_background=True) for given in (rows, rows[::-1]))
    assert forward == pytest.approx(backward, nan_ok=True)
