"""Plain files of a run."""

import csv
import json
import math
from pathlib import Path

import pytest

from seglab.errors import CheckpointError, ConfigError
from seglab.run.make import locate, make
from seglab.run.moved import MOVED
from seglab.run.record import (
    claim,
    config_hash,
    git_state,
    note_resume,
    read_run,
    versions,
    write_json,
    write_rows,
    write_run,
)


def test_a_run_is_written_and_read_and_its_folder_taken(tmp_path: Path) -> None:
    claim(tmp_path)
    write_run(tmp_path, {"seed": 1}, {"run_id": "x", "n_parameters": 3})
    record = read_run(tmp_path)
    assert record["config"] == {"seed": 1} and record["n_parameters"] == 3
    assert record["versions"]["torch"] and record["argv"] and record["config_hash"] == config_hash({"seed": 1})
    with pytest.raises(ConfigError, match="resume="):
        claim(tmp_path)


def test_a_resumption_is_added_and_the_configuration_updated(tmp_path: Path) -> None:
    write_run(tmp_path, {"seed": 1, "resume": None}, {"run_id": "x"})
    for epochs in (2, 3):
        note_resume(tmp_path, {"seed": 1, "epochs": epochs, "resume": str(tmp_path)})
    record = read_run(tmp_path)
    assert len(record["resumed"]) == 2 and record["run_id"] == "x"
    assert record["config"] == {"seed": 1, "epochs": 3, "resume": None}


def test_a_run_of_an_older_version_names_classes_where_they_stand_now(tmp_path: Path) -> None:
    old = {
        "logger": {"wandb": {"_target_": "seglab.run.wandb_settings.WandbSettings", "tags": ["a"]}},
        "sweep": [{"callback": {"_target_": "seglab.run.crossval.FoldSummary"}}],
        "model": {"_target_": "seglab.nets.unet.UNet"},
    }
    write_run(tmp_path, old, {})
    found = read_run(tmp_path)["config"]
    make(found["logger"]["wandb"], "logger.wandb")
    assert found["logger"]["wandb"]["tags"] == ["a"] and found["model"] == old["model"]
    assert found["sweep"][0]["callback"]["_target_"] == "seglab.run.sweeps.crossval.FoldSummary"


def test_every_class_that_has_moved_is_where_the_table_says() -> None:
    for old, new in MOVED.items():
        assert locate(new, "node").__name__ == old.rpartition(".")[2] and new not in MOVED


def test_what_is_no_run_names_the_runs_beside_it(tmp_path: Path) -> None:
    write_run(tmp_path / "good", {}, {})
    with pytest.raises(CheckpointError) as caught:
        read_run(tmp_path / "bad")
    assert str(tmp_path / "good") in caught.value.fix
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "run.json").write_text("{half")
    with pytest.raises(CheckpointError, match="not a run folder"):
        read_run(tmp_path / "bad")


def test_numbers_that_are_not_finite_are_null_and_empty_cells(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"a": math.nan, "b": [1.5, math.inf], "c": {"d": -math.inf}, "e": True})
    assert json.loads((tmp_path / "a.json").read_text()) == {"a": None, "b": [1.5, None], "c": {"d": None}, "e": True}
    write_rows(tmp_path / "a.csv", [{"case": "x", "dice": 0.5}, {"case": "y,z", "dice": math.nan}])
    rows = list(csv.reader((tmp_path / "a.csv").open()))
    assert rows == [["case", "dice"], ["x", "0.5"], ["y,z", ""]]
    write_rows(tmp_path / "empty.csv", [])
    assert (tmp_path / "empty.csv").read_text().strip() == "case"


def test_the_hash_depends_on_the_values_and_not_on_their_order() -> None:
    assert config_hash({"a": 1, "b": {"c": 2}}) == config_hash({"b": {"c": 2}, "a": 1})
    assert config_hash({"a": 1}) != config_hash({"a": 2})


def test_versions_and_commit_are_text() -> None:
    assert all(isinstance(value, str) for value in versions().values())
    commit, diff = git_state()
    assert (commit is None or len(commit) == 40) and isinstance(diff, str)
