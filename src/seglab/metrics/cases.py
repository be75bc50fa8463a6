"""Scores per case (patient, photo, scene) and their mean over cases, apart from those over all pixels.

One rule for empty cases, the same wherever cases are scored:

- in neither truth nor prediction: the case is right; it has no value, is counted as `n_empty` and is in no mean but
  `with_empty`, which counts it as perfect;
- in the truth alone: missed, counted as `n_missed`, with the worst value: 0 for scores, the diagonal of the image for
  distances, all that was missed for differences;
- in the prediction alone: invented, counted as `n_false`, with the worst value alike.

The mean is over all cases but the empty ones; `found` is the mean over those where both hold something.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from seglab.metrics.bootstrap import interval
from seglab.metrics.measures import MEASURES, OF_ALL_CLASSES, SIZES
from seglab.metrics.report import SCORES, Regions, class_pixels, class_scores, foreground, foreground_names, mean

Row = Mapping[str, Any]

CHEAP = ("dice", "iou")
"""Metrics that are summarised wherever cases are scored."""


def case_scores(
    counts: Tensor, class_names: Sequence[str], *, has_background: bool, regions: Regions = ()
) -> dict[str, float]:
    """One row of the table of cases.

    Args:
        counts: (K, K) integers of one case, rows are the truth, columns the prediction.
        class_names: K names.
        has_background: leave class 0 out of the row.
        regions: classes that count as each class; empty when each counts alone.

    Returns:
        For each foreground class dice/<class>, iou/<class>, precision/<class>, recall/<class> and, in pixels,
        n_true/<class>, n_pred/<class>.

    Raises:
        ShapeError: the matrix does not fit the names.
    """
    per_class, pixels = class_scores(counts, class_names, regions), class_pixels(counts, regions)
    row: dict[str, float] = {}
    for index in foreground(len(class_names), has_background=has_background):
        name = class_names[index]
        row |= {f"{score}/{name}": per_class[f"{score}/{name}"] for score in SCORES}
        row |= {f"n_true/{name}": pixels[index][1], f"n_pred/{name}": pixels[index][2]}
    return row


def summarise(
    rows: Sequence[Row], class_names: Sequence[str], *, has_background: bool, metrics: Sequence[str] = CHEAP
) -> dict[str, float]:
    """Means over cases, each with the numbers that say what it is a mean of.

    Args:
        rows: what `case_scores` and `CaseMetrics` gave for each case; "group" is its patient, photo or scene.
        class_names: K names.
        has_background: as for `case_scores`.
        metrics: names out of `MEASURES`; those that no row has are left out.

    Returns:
        case_dice/<class>, the mean over the cases where the class is in truth or prediction, and case_dice/mean, the
        mean of those over classes; the same for each metric. Beside each: <key>/n cases in the mean, of which
        <key>/n_missed with truth but no prediction and <key>/n_false with prediction but no truth; <key>/n_empty
        with neither, outside the mean; <key>/ci_low and /ci_high, its confidence interval of 95 %; <key>/found, the
        mean where both are, and <key>/with_empty, the mean that counts the empty ones as perfect.
    """
    names = foreground_names(class_names, has_background=has_background)
    result: dict[str, float] = {}
    for metric in [metric for metric in metrics if metric in CHEAP or _has(rows, metric)]:
        if metric in OF_ALL_CLASSES:
            result |= _mean_with_interval(f"case_{metric}", *_columns(_known(rows, metric)))
            continue
        for name in names:
            result |= _summary(rows, metric, name)
        means = [result[f"case_{metric}/{name}"] for name in names]
        result[f"case_{metric}/mean"] = mean([value for value in means if not math.isnan(value)])
    return result | _lesion_sensitivity(rows, names)


def _has(rows: Sequence[Row], metric: str) -> bool:
    return any(key.partition("/")[0] == metric for row in rows for key in row)


def _summary(rows: Sequence[Row], metric: str, name: str) -> dict[str, float]:
    """One metric of one class over all cases."""
    key, column = f"case_{metric}/{name}", f"{metric}/{name}"
    values, groups = _columns(_known(rows, column))
    result = _mean_with_interval(key, values, groups)
    held = [row for row in rows if not math.isnan(row.get(column, math.nan))]
    kinds = [(row[f"n_true/{name}"] > 0, row[f"n_pred/{name}"] > 0) for row in held]
    both = [value for value, kind in zip(values, kinds, strict=True) if kind == (True, True)]
    n_empty = sum(1 for row in rows if not (row[f"n_true/{name}"] or row[f"n_pred/{name}"]))
    perfect = 1.0 if MEASURES[metric].better == "higher" else 0.0
    return result | {
        f"{key}/n_missed": kinds.count((True, False)),
        f"{key}/n_false": kinds.count((False, True)),
        f"{key}/n_empty": n_empty,
        f"{key}/found": mean(both),
        f"{key}/with_empty": mean(values + [perfect] * n_empty),
    }


def _mean_with_interval(key: str, values: Sequence[float], groups: Sequence[Any]) -> dict[str, float]:
    low, high = interval(values, groups)
    return {key: mean(values), f"{key}/n": len(values), f"{key}/ci_low": low, f"{key}/ci_high": high}


def _known(rows: Sequence[Row], column: str) -> list[tuple[float, Any]]:
    """Values and groups of the cases that have one; a case without a group is its own."""
    values = [(row.get(column, math.nan), row.get("group", n)) for n, row in enumerate(rows)]
    return [(value, group) for value, group in values if not math.isnan(value)]


def _columns(pairs: Sequence[tuple[float, Any]]) -> tuple[list[float], list[Any]]:
    return [value for value, _ in pairs], [group for _, group in pairs]


def _lesion_sensitivity(rows: Sequence[Row], names: Sequence[str]) -> dict[str, float]:
    """Share of all true lesions that were found, over all cases together, and the same by size."""
    result: dict[str, float] = {}
    for name in names:
        for size in ("", *(f"_{size}" for size in SIZES)):
            columns = f"n_lesions{size}/{name}", f"n_lesions_found{size}/{name}"
            known = [row for row in rows if columns[0] in row]
            if known:
                n, n_found = (int(sum(row[column] for row in known)) for column in columns)
                key = f"lesion_sensitivity{size}/{name}"
                result |= {key: n_found / n if n else math.nan, f"{key}/n": n}
    return result
