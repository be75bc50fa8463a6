"""Cases in subgroups: by scanner, scene, size or whatever else is known of them."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from seglab.errors import ConfigError
from seglab.metrics.cases import Row

MOST_VALUES = 5
"""Different numbers that are subgroups of their own; more are cut into thirds."""


def subgroups(rows: Sequence[Row], column: str) -> dict[str, list[Row]]:
    """Share out cases by a column.

    Text and few different numbers make a subgroup each; more numbers are cut into three of about equally many cases,
    at values of cases. Cases without a value are "unknown".

    Args:
        rows: of the cases.
        column: such as "scanner" or, for the true size of a class in pixels, "n_true/liver".

    Returns:
        The cases of each subgroup, smallest number or first name first.

    Raises:
        ConfigError: no case has such a column.
    """
    columns = list(dict.fromkeys(key for row in rows for key in row))
    if column not in columns:
        raise ConfigError(
            "the cases cannot be shared out by this column",
            given=f"subgroups=[{column}]",
            allowed=", ".join(columns),
            fix="set subgroups=[<column>], with a column of cases.csv",
        )
    values = [_number(row.get(column)) for row in rows]
    known = sorted({value for value in values if isinstance(value, float) and not math.isnan(value)})
    if len(known) > MOST_VALUES and not any(isinstance(value, str) for value in values):
        numbers = [float(value) for value in values]
        given = [number for number in numbers if not math.isnan(number)]
        cuts = np.quantile(given, [0, 1 / 3, 2 / 3, 1], method="inverted_cdf").tolist()
        names = [_third(number, cuts) for number in numbers]
        order = {name: index for index, name in enumerate(_third(cut, cuts) for cut in cuts)}
    else:
        names = [_text(value) for value in values]
        order = {_text(value): index for index, value in enumerate(known)}
    ranked = sorted(set(names), key=lambda name: (name == "unknown", order.get(name, 0), name))
    return {name: [row for row, own in zip(rows, names, strict=True) if own == name] for name in ranked}


def _number(value: Any) -> float | str:
    if value is None or value == "":
        return math.nan
    try:
        return float(value)
    except ValueError:
        return str(value)


def _text(value: float | str) -> str:
    if isinstance(value, str):
        return value
    return "unknown" if math.isnan(value) else f"{value:g}"


def _third(number: float, cuts: list[float]) -> str:
    if math.isnan(number):
        return "unknown"
    index, names = min(sum(number > cut for cut in cuts[1:3]), 2), _rounded(cuts)
    return f"{names[index]} to {names[index + 1]}"


def _rounded(cuts: list[float]) -> list[str]:
    """With as few decimals as tell them apart: none for whole numbers, else at least one."""
    decimals = 0 if all(cut.is_integer() for cut in cuts) else 1
    while len({f"{cut:.{decimals}f}" for cut in cuts}) < len(set(cuts)):
        decimals += 1
    return [f"{cut:.{decimals}f}" for cut in cuts]
