"""Info lists what exists, each with a first line of its documentation."""

import json
import re
from typing import Any

import pytest
from run_jobs import composed

from seglab.errors import ConfigError
from seglab.nets.base import Faithfulness
from seglab.run.catalogue import CONF, choices, help_lines, names
from seglab.run.info import info


def listed(capsys: pytest.CaptureFixture[str], what: str) -> list[dict[str, Any]]:
    info(composed("info", [f"what={what}", "format=json"]))
    rows: list[dict[str, Any]] = json.loads(capsys.readouterr().out)
    return rows


def test_models_have_a_source_dimensions_and_parameters(capsys: pytest.CaptureFixture[str]) -> None:
    rows = {row["name"]: row for row in listed(capsys, "models")}
    assert set(rows) == {file.stem for file in (CONF / "model").glob("*.yaml")}
    assert rows["unet"]["dims"] == [2, 3] and rows["smp"]["dims"] == [2]
    assert rows["unet"]["faithfulness"] == "faithful" and rows["smp"]["faithfulness"] == "reference"
    for name, row in rows.items():
        assert set(row["parameters"]) == {f"{dims}d" for dims in row["dims"]}, name
        assert all(number > 10_000 for number in row["parameters"].values()), name
        assert row["paper"].startswith("https://") and row["faithfulness"] in Faithfulness.__args__, name


@pytest.mark.parametrize("what", ["data", "losses", "metrics"])
def test_everything_else_is_listed_with_its_documentation(capsys: pytest.CaptureFixture[str], what: str) -> None:
    rows = listed(capsys, what)
    assert len(rows) >= 3 and all(row["name"] and len(row["doc"]) > 10 and row["dims"] for row in rows)


@pytest.mark.slow
def test_the_table_names_every_row(capsys: pytest.CaptureFixture[str]) -> None:
    info(composed("info", []))
    shown = capsys.readouterr().out
    assert all(name in shown for name in names("model")) and "2, 3" in shown
    assert re.search(r"^unet +https://arxiv.org/abs/1505.04597 +faithful", shown, re.MULTILINE)


@pytest.mark.parametrize("override", ["what=model", "format=xml"])
def test_an_unknown_topic_or_format_is_refused(override: str) -> None:
    with pytest.raises(ConfigError, match="what=models"):
        info(composed("info", [override]))


def test_help_shows_each_choice_with_the_first_line_of_its_class() -> None:
    lines = help_lines("model").splitlines()
    assert len(lines) == len(names("model")) and all("model=" in line and len(line) > 40 for line in lines)
    assert all(choice.doc for group in ("model", "data", "loss", "scheduler") for choice in choices(group))
