"""Scores per case (patient, photo, scene) and their mean over cases, apart from those over all pixels.

The rule is that of report.py: a case where a class is in neither truth nor prediction is NaN for it and counted as
empty; a missed or invented class scores 0.
"""

import math
from collections.abc import Mapping, Sequence

from torch import Tensor

from seglab.metrics.report import SCORES, class_scores, foreground_names, mean

SUMMARISED = ("dice", "iou")


def case_scores(counts: Tensor, class_names: Sequence[str], *, has_background: bool) -> dict[str, float]:
    """One row of the table of cases.

    Args:
        counts: (K, K) integers of one case, rows are the truth, columns the prediction.
        class_names: K names.
        has_background: leave class 0 out of the row.

    Returns:
        For each foreground class dice/<class>, iou/<class>, precision/<class>, recall/<class> and, in pixels,
        n_true/<class>, n_pred/<class>.

    Raises:
        ShapeError: the matrix does not fit the names.
    """
    per_class = class_scores(counts, class_names)
    n_true = dict(zip(class_names, counts.sum(dim=1).tolist(), strict=True))
    n_pred = dict(zip(class_names, counts.sum(dim=0).tolist(), strict=True))
    row: dict[str, float] = {}
    for name in foreground_names(class_names, has_background=has_background):
        row |= {f"{score}/{name}": per_class[f"{score}/{name}"] for score in SCORES}
        row |= {f"n_true/{name}": n_true[name], f"n_pred/{name}": n_pred[name]}
    return row


def summarise(
    rows: Sequence[Mapping[str, float]], class_names: Sequence[str], *, has_background: bool
) -> dict[str, float]:
    """Means over cases, each with the numbers that say what it is a mean of.

    Args:
        rows: what `case_scores` gave for each case.
        class_names: K names.
        has_background: as for `case_scores`.

    Returns:
        case_dice/<class>, the mean over the cases where the class is in truth or prediction, and case_dice/mean, the
        mean of those over classes; the same for case_iou. Beside each, in cases: <key>/n in the mean, of which
        <key>/n_missed with truth but no prediction and <key>/n_false with prediction but no truth; <key>/n_empty
        with neither, outside the mean.
    """
    names = foreground_names(class_names, has_background=has_background)
    result: dict[str, float] = {}
    for score in SUMMARISED:
        for name in names:
            key = f"case_{score}/{name}"
            values = [row[f"{score}/{name}"] for row in rows if not math.isnan(row[f"{score}/{name}"])]
            result |= {key: mean(values), f"{key}/n": len(values)}
            result |= {f"{key}/{what}": number for what, number in _failures(rows, name).items()}
        means = [result[f"case_{score}/{name}"] for name in names]
        result[f"case_{score}/mean"] = mean([value for value in means if not math.isnan(value)])
    return result


def _failures(rows: Sequence[Mapping[str, float]], name: str) -> dict[str, int]:
    kinds = [(row[f"n_true/{name}"] > 0, row[f"n_pred/{name}"] > 0) for row in rows]
    return {
        "n_missed": kinds.count((True, False)),
        "n_false": kinds.count((False, True)),
        "n_empty": kinds.count((False, False)),
    }
