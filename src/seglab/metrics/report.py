"""From a confusion matrix to named numbers.

One rule for empty classes: a class in neither truth nor prediction is NaN and in no mean; a class in at least one of
them has every score, and a quotient of nothing by nothing is then 0, so that a missed or invented class never improves
a mean. `n_classes` says how many classes the means are over.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from seglab.errors import ConfigError, ShapeError

METRICS = {
    "dice": "Dice: 2 TP / (2 TP + FP + FN)",
    "iou": "Intersection over union, Jaccard index: TP / (TP + FP + FN)",
    "precision": "Precision: TP / (TP + FP)",
    "recall": "Recall, sensitivity: TP / (TP + FN)",
}
SCORES = tuple(METRICS)

Regions = Sequence[Sequence[int]]
"""For each class the classes that count as it, where classes lie within each other."""


def scores(
    counts: Tensor, class_names: Sequence[str], *, has_background: bool, regions: Regions = ()
) -> dict[str, float]:
    """Scores over all counted pixels, per class and as means over the foreground classes.

    Args:
        counts: (K, K) integers, rows are the truth, columns the prediction.
        class_names: K names.
        has_background: class 0 has its own scores but is in no mean.
        regions: classes that count as each class; empty when each counts alone.

    Returns:
        Under the keys of `metric_names`: dice, iou, precision, recall as <score>/<class> and <score>/mean, the number
        `n_classes` of classes in the means, and `accuracy`, the share of right pixels. NaN where nothing was counted.

    Raises:
        ShapeError: the matrix does not fit the names.
    """
    names = foreground_names(class_names, has_background=has_background)
    per_class = class_scores(counts, class_names, regions)
    present = [name for name in names if not math.isnan(per_class[f"dice/{name}"])]
    result: dict[str, float] = {}
    for score in SCORES:
        result |= {f"{score}/{name}": per_class[f"{score}/{name}"] for name in class_names}
        result[f"{score}/mean"] = mean([per_class[f"{score}/{name}"] for name in present])
    total = int(counts.sum())
    result["n_classes"] = len(present)
    result["accuracy"] = int(counts.diagonal().sum()) / total if total else float("nan")
    return result


def metric_names(class_names: Sequence[str], *, has_background: bool) -> list[str]:
    """Keys of `scores` in their order, known before anything is trained.

    Args:
        class_names: index is the class.
        has_background: as for `scores`.

    Raises:
        ConfigError: names that repeat or collide with "mean".
    """
    if len({"mean", *class_names}) != len(class_names) + 1:
        raise ConfigError(
            "class names would overwrite each other's scores",
            given=f"class names {list(class_names)}",
            allowed='different names, none of them "mean"',
            fix="rename the class in data.class_names",
        )
    empty = torch.zeros(len(class_names), len(class_names), dtype=torch.int64)
    return list(scores(empty, class_names, has_background=has_background))


def class_scores(counts: Tensor, class_names: Sequence[str], regions: Regions = ()) -> dict[str, float]:
    """The four scores of every class as <score>/<class>.

    Args:
        counts: (K, K) integers, rows are the truth, columns the prediction.
        class_names: K names.
        regions: classes that count as each class; empty when each counts alone.

    Raises:
        ShapeError: the matrix does not fit the names.
    """
    if counts.shape != (len(class_names), len(class_names)):
        raise ShapeError(
            "the confusion matrix does not fit the classes",
            given=f"a matrix of shape {tuple(counts.shape)} for {len(class_names)} classes",
            allowed="one row and one column per class",
            fix="use the class names of the data set that was counted",
        )
    result: dict[str, float] = {}
    for name, (n_hit, n_true, n_pred) in zip(class_names, class_pixels(counts, regions), strict=True):
        both = n_true + n_pred
        result[f"dice/{name}"] = 2 * n_hit / both if both else float("nan")
        result[f"iou/{name}"] = n_hit / (both - n_hit) if both else float("nan")
        result[f"precision/{name}"] = n_hit / max(n_pred, 1) if both else float("nan")
        result[f"recall/{name}"] = n_hit / max(n_true, 1) if both else float("nan")
    return result


def class_pixels(counts: Tensor, regions: Regions = ()) -> list[tuple[int, int, int]]:
    """Of each class the pixels in both truth and prediction, in truth, in prediction.

    Args:
        counts: (K, K) integers, rows are the truth, columns the prediction.
        regions: classes that count as each class; empty when each counts alone.
    """
    table, size = counts.cpu(), len(counts)
    members = torch.eye(size, dtype=torch.int64)
    for index, region in enumerate(regions):
        members[index] = 0
        members[index, list(region)] = 1
    inside = members @ table  # (classes as regions, predicted classes)
    hit, true, pred = (inside * members).sum(dim=1), inside.sum(dim=1), members @ table.sum(dim=0)
    return list(zip(hit.tolist(), true.tolist(), pred.tolist(), strict=True))


def foreground(num_classes: int, *, has_background: bool) -> range:
    """Indices of the classes that means are over."""
    return range(1 if has_background else 0, num_classes)


def foreground_names(class_names: Sequence[str], *, has_background: bool) -> tuple[str, ...]:
    """The classes that means are over: all but class 0 where class 0 is background."""
    return tuple(class_names[1:] if has_background else class_names)


def mean(values: Sequence[float]) -> float:
    """Plain mean; NaN of nothing."""
    return sum(values) / len(values) if values else float("nan")
