"""Cross-validation: what is made of the folds' scores; the sweep itself is run in tests/ddp."""

import json
from pathlib import Path

import pytest

from seglab.errors import CheckpointError
from seglab.run.ensemble import _check_alike, members_of, run_folder, write_ensemble
from seglab.run.sweeps.crossval import fold_table, grouped, over_folds
from seglab.run.sweeps.sweep_record import Job


def job(number: int, *overrides: str) -> Job:
    return Job(number, ["train.py"], ["experiment=crossval", *overrides], str(number), "finished")


def test_jobs_that_differ_in_their_fold_alone_belong_together() -> None:
    jobs = [job(n, f"data.fold={n % 2}", f"model={model}") for n, model in enumerate(["unet", "unet", "dcunet"])]
    assert {label: [each.number for each in each_jobs] for label, each_jobs in grouped(jobs).items()} == {
        "model=unet": [0, 1],
        "model=dcunet": [2],
    }
    (label,) = grouped([job(0, "data.fold=0"), job(1, "data.fold=1")])
    assert not label


def test_mean_and_deviation_leave_out_folds_where_a_metric_is_undefined() -> None:
    scores = [{"test/dice/mean": 0.5, "test/iou/a": None}, {"test/dice/mean": 0.9, "test/iou/a": 0.25}]
    found = over_folds(scores)
    assert found["dice/mean"]["mean"] == pytest.approx(0.7) and found["dice/mean"]["std"] == pytest.approx(0.2828427)
    assert found["iou/a"] == {"mean": 0.25, "std": None, "n": 1, "values": [None, 0.25]}


def test_the_table_shows_the_main_scores() -> None:
    val = over_folds([{"test/dice/mean": 0.5}, {"test/dice/mean": 0.9}])
    table = fold_table({"val": val, "test": {}}, "2 folds")
    assert list(table.columns[1].cells) == ["0.7000 ± 0.2828"] and list(table.columns[2].cells) == [""]


def test_members_are_named_as_seen_from_their_folder(tmp_path: Path) -> None:
    elsewhere = tmp_path.parent / "elsewhere"
    write_ensemble(tmp_path, [tmp_path / "0", tmp_path / "1", elsewhere])
    names = json.loads((tmp_path / "ensemble.json").read_text())["members"]
    assert names == ["0", "1", str(elsewhere)]
    assert members_of(tmp_path) == [tmp_path / "0", tmp_path / "1", elsewhere]
    assert members_of(elsewhere) == [elsewhere]


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"members": []}', '{"members": 3}'])
def test_an_ensemble_without_members_is_refused(text: str, tmp_path: Path) -> None:
    (tmp_path / "ensemble.json").write_text(text)
    with pytest.raises(CheckpointError, match="ensemble cannot be read"):
        members_of(tmp_path)


def test_several_runs_share_one_folder_of_their_ensemble(tmp_path: Path) -> None:
    runs = [tmp_path / name for name in ("a", "b")]
    for run in runs:
        run.mkdir()
        (run / "run.json").write_text("{}")
    folder = run_folder([str(run) for run in runs])
    assert folder.parent == tmp_path and members_of(folder) == runs
    assert run_folder([str(run) for run in runs]) == folder != run_folder([str(run) for run in reversed(runs)])
    assert run_folder(str(runs[0])) == run_folder([str(runs[0])]) == runs[0]


def test_several_runs_are_all_there_before_they_are_joined(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "run.json").write_text("{}")
    with pytest.raises(CheckpointError, match="not a run folder"):
        run_folder([str(tmp_path / "a"), str(tmp_path / "b")])
    assert [file.name for file in tmp_path.iterdir()] == ["a"]
    with pytest.raises(CheckpointError, match="no run is named"):
        run_folder([])


def test_runs_on_different_data_are_not_joined() -> None:
    runs = [Path("a"), Path("b")]
    _check_alike(runs, ["3 channels in 2-D, background, crack"] * 2)
    with pytest.raises(CheckpointError, match="different data") as caught:
        _check_alike(runs, ["3 channels in 2-D, background, crack", "1 channels in 2-D, background, liver"])
    assert "leave b out" in str(caught.value)
