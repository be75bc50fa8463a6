"""Subgroups by text, by few numbers and by thirds."""

import pytest

from seglab.errors import ConfigError
from seglab.metrics.subgroups import subgroups


def sizes(values: list[object]) -> dict[str, int]:
    rows = [{"case": str(n), "x": value} for n, value in enumerate(values)]
    return {name: len(members) for name, members in subgroups(rows, "x").items()}


def test_text_and_few_numbers_are_subgroups_of_their_own() -> None:
    assert list(sizes(["GE", "Siemens", "GE", ""]).items()) == [("GE", 2), ("Siemens", 1), ("unknown", 1)]
    assert list(sizes(["10", "2", "2", None]).items()) == [("2", 2), ("10", 1), ("unknown", 1)]


def test_many_numbers_are_cut_into_thirds() -> None:
    assert list(sizes([*range(9), float("nan")]).items()) == [
        ("0 to 2", 3),
        ("2 to 5", 3),
        ("5 to 8", 3),
        ("unknown", 1),
    ]


def test_bounds_have_as_few_decimals_as_tell_them_apart() -> None:
    assert list(sizes([1.23456, 12.3456, 100.01, 250.5, 1023.333, 4000.25])) == [
        "1.2 to 12.3",
        "12.3 to 250.5",
        "250.5 to 4000.2",
    ]
    assert list(sizes([0.0101, 0.0113, 0.0131, 0.0142, 0.0151, 0.0163])) == [
        "0.010 to 0.011",
        "0.011 to 0.014",
        "0.014 to 0.016",
    ]


def test_an_unknown_column_names_those_that_are_there() -> None:
    with pytest.raises(ConfigError) as caught:
        subgroups([{"case": "a", "scanner": "GE"}], "scaner")
    assert "case, scanner" in caught.value.allowed
