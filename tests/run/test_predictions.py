"""The record of predictions: what is done stays, what is missing, changed or half-done is made anew."""

from pathlib import Path

import pytest

from seglab.data.contents import content_hash
from seglab.errors import ConfigError
from seglab.run.inputs import find_inputs
from seglab.run.predict import with_changes
from seglab.run.predictions import FILE, PART, Predictions, claimed


def write(folder: Path, stem: Path, input_hash: str, text: str = "labels") -> None:
    with Predictions(folder, {"a": 1}).writing(stem, Path("in.png"), input_hash) as temporary:
        temporary.with_name(f"{temporary.name}.png").write_text(text)
        temporary.with_name(f"{temporary.name}.probs.npy").write_text("probs")
        assert not stem.with_name(f"{stem.name}.png").exists()


def test_a_case_is_done_until_input_settings_or_an_output_change(tmp_path: Path) -> None:
    stem = tmp_path / "sub" / "case"
    write(tmp_path, stem, "input")
    assert sorted(file.name for file in stem.parent.iterdir()) == ["case.png", "case.probs.npy"]
    assert Predictions(tmp_path, {"a": 1}).is_done(stem, "input")
    assert not Predictions(tmp_path, {"a": 2}).is_done(stem, "input")
    assert not Predictions(tmp_path, {"a": 1}).is_done(stem, "other input")
    assert not Predictions(tmp_path, {"a": 1}).is_done(tmp_path / "other", "input")
    (stem.parent / "case.png").write_text("edited")
    assert not Predictions(tmp_path, {"a": 1}).is_done(stem, "input")


def test_a_failed_case_leaves_nothing_and_an_older_output_as_it_was(tmp_path: Path) -> None:
    stem = tmp_path / "case"
    write(tmp_path, stem, "input")
    with (
        pytest.raises(OSError, match="disk"),
        Predictions(tmp_path, {}).writing(stem, Path("in.png"), "new") as temporary,
    ):
        temporary.with_name("case.png").write_text("half")
        raise OSError("disk")
    assert (tmp_path / "case.png").read_text() == "labels"
    assert not list(tmp_path.glob(f"{PART}*"))


def test_a_killed_process_leaves_no_trace_after_the_next_start(tmp_path: Path) -> None:
    write(tmp_path, tmp_path / "one", "input")
    (tmp_path / f"{PART}left").mkdir()
    (tmp_path / f"{PART}left" / "two.png").write_text("half")
    with (tmp_path / FILE).open("a") as stream:
        stream.write('{"output": "two", "input_sha')
    with claimed(tmp_path):
        assert not list(tmp_path.glob(f"{PART}*"))
        write(tmp_path, tmp_path / "two", "input")
        again = Predictions(tmp_path, {"a": 1})
        assert again.is_done(tmp_path / "one", "input") and again.is_done(tmp_path / "two", "input")


def test_a_folder_takes_one_process_at_a_time(tmp_path: Path) -> None:
    with claimed(tmp_path), pytest.raises(ConfigError, match="another prediction"), claimed(tmp_path):
        pass


def test_the_hash_of_a_folder_is_that_of_names_and_contents(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "1.dcm").write_text("slice")
    assert content_hash(tmp_path / "a") == content_hash(tmp_path / "b")
    (tmp_path / "b" / "1.dcm").rename(tmp_path / "b" / "2.dcm")
    assert content_hash(tmp_path / "a") != content_hash(tmp_path / "b")


def test_a_table_names_files_relative_to_itself(tmp_path: Path) -> None:
    table = tmp_path / "cases.csv"
    table.write_text("id,image\n1,x/b.png\n2,a.png\n3,a.png\n")
    assert find_inputs(str(table), tmp_path / "out") == [tmp_path / "x" / "b.png", tmp_path / "a.png"]
    with pytest.raises(ConfigError, match="set column=id"):
        find_inputs(str(table), tmp_path / "out", "scan")


def test_only_what_is_given_replaces_what_was_trained() -> None:
    trained = {"_target_": "w", "overlap": 0.5, "tta": {"_target_": "v", "flips": False, "scales": [1.0]}}
    nothing = {"overlap": None, "tta": {"flips": None, "scales": None}}
    assert with_changes(trained, nothing) == trained
    changed = with_changes(trained, {"overlap": 0.25, "tta": {"flips": True, "scales": None}})
    assert changed == {"_target_": "w", "overlap": 0.25, "tta": {"_target_": "v", "flips": True, "scales": [1.0]}}
    assert with_changes({"_target_": "w"}, {"tta": {"_target_": "v", "flips": None}}) == {"_target_": "w"}
