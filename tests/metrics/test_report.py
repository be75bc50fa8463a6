"""Scores from a confusion matrix: hand cases and the one rule for empty classes."""

import math

import numpy as np
import pytest
import torch

from seglab.errors import ConfigError, ShapeError
from seglab.metrics.confusion import count
from seglab.metrics.report import metric_names, scores

LIVER = ("background", "liver", "tumour")


def test_absent_class_is_nan_and_not_in_mean() -> None:
    counts = count(torch.tensor([[0, 1, 1, 0]]), torch.tensor([[0, 1, 0, 0]]), 3)  # no tumour anywhere
    result = scores(counts, LIVER, has_background=True)
    assert result["dice/liver"] == pytest.approx(2 / 3)
    assert result["iou/liver"] == result["precision/liver"] == 0.5
    assert result["recall/liver"] == 1
    assert all(math.isnan(result[f"{score}/tumour"]) for score in ("dice", "iou", "precision", "recall"))
    assert result["dice/mean"] == pytest.approx(2 / 3) and result["n_classes"] == 1
    assert result["dice/background"] == pytest.approx(0.8)
    assert result["accuracy"] == 0.75


def test_mean_includes_class_zero_only_where_it_is_no_background() -> None:
    counts = count(torch.tensor([[0, 1, 1, 0]]), torch.tensor([[0, 1, 0, 0]]), 3)
    result = scores(counts, LIVER, has_background=False)
    assert result["dice/mean"] == pytest.approx((0.8 + 2 / 3) / 2) and result["n_classes"] == 2


@pytest.mark.parametrize(("pred", "mask"), [([0, 0], [0, 1]), ([0, 1], [0, 0])], ids=["missed", "invented"])
def test_missed_or_invented_class_scores_zero_and_counts_in_the_mean(pred: list[int], mask: list[int]) -> None:
    result = scores(count(torch.tensor(pred), torch.tensor(mask), 2), LIVER[:2], has_background=True)
    assert [
        result[f"{score}/{of}"] for score in ("dice", "iou", "precision", "recall") for of in ("liver", "mean")
    ] == [0] * 8
    assert result["n_classes"] == 1


def test_means_are_nan_when_no_foreground_class_is_there() -> None:
    result = scores(count(torch.zeros(4).byte(), torch.zeros(4).byte(), 3), LIVER, has_background=True)
    assert math.isnan(result["dice/mean"]) and result["n_classes"] == 0
    assert result["accuracy"] == 1


def test_nothing_counted_is_nan_throughout() -> None:
    result = scores(torch.zeros(3, 3, dtype=torch.int64), LIVER, has_background=True)
    assert all(math.isnan(value) for key, value in result.items() if key != "n_classes")


@pytest.mark.parametrize("num_classes", [2, 3, 7])
def test_scores_equal_sets_of_pixels(num_classes: int) -> None:
    rng = np.random.default_rng(num_classes)
    pred, mask = rng.integers(0, num_classes, (2, 4, 9, 8))
    mask[rng.random(mask.shape) < 0.2] = 255
    class_names = [f"class_{index}" for index in range(num_classes)]
    counts = count(torch.from_numpy(pred), torch.from_numpy(mask), num_classes)
    result = scores(counts, class_names, has_background=True)
    dice = []
    for index, name in enumerate(class_names):
        predicted, true = (pred == index) & (mask != 255), mask == index
        hit = (predicted & true).sum()
        dice.append(2 * hit / (predicted.sum() + true.sum()))
        assert result[f"dice/{name}"] == pytest.approx(dice[-1], abs=1e-12)
        assert result[f"iou/{name}"] == pytest.approx(hit / (predicted | true).sum(), abs=1e-12)
        assert result[f"precision/{name}"] == pytest.approx(hit / predicted.sum(), abs=1e-12)
        assert result[f"recall/{name}"] == pytest.approx(hit / true.sum(), abs=1e-12)
    assert result["dice/mean"] == pytest.approx(np.mean(dice[1:]), abs=1e-12)
    assert result["accuracy"] == pytest.approx((pred == mask)[mask != 255].mean(), abs=1e-12)


def test_renaming_classes_moves_scores_with_their_names() -> None:
    counts = torch.tensor([[5, 1, 2], [0, 7, 3], [4, 4, 9]])
    order = [2, 0, 1]
    permuted = counts[order][:, order]
    assert scores(permuted, [LIVER[i] for i in order], has_background=False) == pytest.approx(
        scores(counts, LIVER, has_background=False)
    )


def test_counts_beyond_float32_lose_nothing() -> None:
    counts = torch.tensor([[2**40, 1], [0, 1]])
    assert scores(counts, LIVER[:2], has_background=True)["precision/liver"] == 0.5


@pytest.mark.parametrize("has_background", [True, False])
def test_metric_names_are_the_keys_of_scores(has_background: bool) -> None:
    found = metric_names(LIVER, has_background=has_background)
    assert found == list(scores(torch.eye(3, dtype=torch.int64), LIVER, has_background=has_background))
    assert {"dice/tumour", "iou/mean", "accuracy", "n_classes"} <= set(found)


@pytest.mark.parametrize("class_names", [("a", "a"), ("background", "mean")])
def test_names_that_would_overwrite_scores_are_refused(class_names: tuple[str, ...]) -> None:
    with pytest.raises(ConfigError, match="overwrite"):
        metric_names(class_names, has_background=True)


def test_a_matrix_of_other_classes_is_refused() -> None:
    with pytest.raises(ShapeError, match="2 classes"):
        scores(torch.zeros(3, 3, dtype=torch.int64), LIVER[:2], has_background=True)
