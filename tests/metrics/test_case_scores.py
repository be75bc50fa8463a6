"""Scores per case: what counts as missed, invented or empty, and what is in a mean."""

import math

import pytest
import torch

from seglab.metrics.cases import case_scores, summarise
from seglab.metrics.confusion import count
from seglab.metrics.measures import MEASURES

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


def test_means_with_and_without_missed_and_empty_cases_stand_side_by_side() -> None:
    result = summarise([PERFECT, HALF, MISSED, INVENTED], NAMES, has_background=True)
    assert result["case_dice/tumour"] == pytest.approx(1 / 3)
    assert result["case_dice/tumour/found"] == 1
    assert result["case_dice/tumour/with_empty"] == pytest.approx((1 + 0 + 0 + 1) / 4)
    assert result["case_dice/liver/ci_low"] < result["case_dice/liver"] < result["case_dice/liver/ci_high"]


def test_empty_cases_are_perfect_at_zero_where_less_is_better() -> None:
    rows = [{**PERFECT, "hd95/tumour": 4.0}, {**MISSED, "hd95/tumour": 20.0}, HALF]
    result = summarise(rows, NAMES, has_background=True, metrics=["hd95"])
    assert (result["case_hd95/tumour"], result["case_hd95/tumour/found"]) == (12, 4)
    assert result["case_hd95/tumour/with_empty"] == 8
    assert [result[f"case_hd95/tumour/{what}"] for what in ("n", "n_missed", "n_empty")] == [2, 1, 1]


def test_metrics_that_no_case_has_are_left_out() -> None:
    assert not any("hd95" in key for key in summarise([PERFECT], NAMES, has_background=True, metrics=list(MEASURES)))


def test_scores_of_all_classes_together_have_no_class() -> None:
    rows = [{**PERFECT, "ece": 0.1}, {**HALF, "ece": 0.3}]
    result = summarise(rows, NAMES, has_background=True, metrics=["ece"])
    assert result["case_ece"] == pytest.approx(0.2) and result["case_ece/n"] == 2


def test_lesion_sensitivity_is_over_all_lesions_of_all_cases() -> None:
    columns = [
        f"n_lesions{found}{size}/tumour" for size in ("", "_small", "_medium", "_large") for found in ("", "_found")
    ]
    one, two = (
        dict(zip(columns, values, strict=True)) for values in ([3, 2, 3, 2, 0, 0, 0, 0], [1, 0, 0, 0, 1, 0, 0, 0])
    )
    result = summarise([{**PERFECT, **one}, {**PERFECT, **two}], NAMES, has_background=True)
    assert result["lesion_sensitivity/tumour"] == 0.5 and result["lesion_sensitivity/tumour/n"] == 4
    assert result["lesion_sensitivity_small/tumour"] == pytest.approx(2 / 3)
    assert result["lesion_sensitivity_medium/tumour"] == 0
    assert math.isnan(result["lesion_sensitivity_large/tumour"])


def test_regions_count_the_classes_that_lie_within_them() -> None:
    counts = count(torch.tensor([0, 2, 1, 2]), torch.tensor([0, 1, 2, 2]), 3)
    found = case_scores(counts, NAMES, has_background=True, regions=((0,), (1, 2), (2,)))
    assert found["dice/liver"] == 1 and found["n_true/liver"] == 3
    assert found["dice/tumour"] == 0.5
