"""prepare: data is stored and reported with all its faults; what is stored is listed and freed; licences come first."""

import gc
import json
import shutil
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from rich.console import Console
from run_jobs import TINY_CRACK, composed, train_in

from seglab.data.crack import CrackData
from seglab.data.findings import FaultsError, Finding
from seglab.data.photos import PhotosData
from seglab.errors import ConfigError, DataError
from seglab.run.prepare import prepare
from seglab.run.reports.data_report import doubts, grouped, report_dir
from seglab.run.reports.data_screen import show_report


def prepared(*overrides: str) -> None:
    prepare(composed("prepare", list(overrides)))


def report_of(cache: Path) -> dict[str, Any]:
    (file,) = cache.glob("reports/*/report.json")
    return json.loads(file.read_text())


def test_a_sound_data_set_is_stored_and_reported(
    crack_root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    prepared("data=crack", f"data.root={crack_root}", f"paths.cache_dir={tmp_path}")
    told = capsys.readouterr().out
    assert "32 cases of" in told and "0 errors, 0 warnings" in told and "report.html" in told
    report = report_of(tmp_path)
    assert report["status"] == "ready" and len(report["cases"]) == report["n_cases"] == 32
    assert {split["name"]: split["n_groups"] for split in report["splits"]} == {"train": 5, "val": 1, "test": 2}
    assert [each["name"] for each in report["classes"]] == ["background", "crack"]
    assert len(list(tmp_path.glob("prepared/entries/*"))) == 32
    (page,) = tmp_path.glob("reports/*/report.html")
    text = page.read_text()
    assert text.count('src="data:image/png;base64,') == 12 and "http" not in text and "prefers-color-scheme" in text


def test_data_that_is_described_otherwise_has_a_report_of_its_own(tmp_path: Path) -> None:
    ways: list[dict[str, Any]] = [{}, {"table": "a.csv"}, {"images": "{case}.png"}, {"classes": {"a": 0, "b": [1, 2]}}]
    made = [PhotosData(root="phantom", cache_dir=str(tmp_path), **way) for way in ways]
    assert len({report_dir(data) for data in made}) == len(ways)
    assert report_dir(made[0]) == report_dir(PhotosData(root="phantom", cache_dir=str(tmp_path), num_workers=0))


def test_all_faults_are_told_at_once_and_stand_in_the_report_with_what_is_good(
    crack_root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = tmp_path / "raw"
    shutil.copytree(crack_root, root)
    for name in ("images/photo_00_0.png", "masks/photo_00_1.png"):
        (root / name).write_bytes(b"")
    with pytest.raises(FaultsError, match=r"2 faults[\s\S]*images/photo_00_0\.png[\s\S]*masks/photo_00_1\.png"):
        prepared("data=crack", f"data.root={root}", f"paths.cache_dir={tmp_path}")
    report = report_of(tmp_path)
    (fault,) = [finding for finding in report["findings"] if finding["severity"] == "error"]
    files = {Path(place["file"]).relative_to(root).as_posix() for place in fault["places"]}
    assert files == {"images/photo_00_0.png", "masks/photo_00_1.png"} and "0 bytes" in fault["what"]
    assert report["status"] == "refused" and len(report["cases"]) == 30
    assert "2 errors" in capsys.readouterr().out


def test_files_without_a_partner_are_told_with_the_other_faults_and_set_aside(crack_root: Path, tmp_path: Path) -> None:
    root = tmp_path / "raw"
    shutil.copytree(crack_root, root)
    (root / "images/photo_03_2.png").write_bytes(b"no photo")
    (root / "masks/photo_00_0.png").unlink()
    (root / "images/photo_00_1.png").unlink()
    given = ["data=photos", f"data.root={root}", f"paths.cache_dir={tmp_path}", "data.on_leak=warn"]
    with pytest.raises(FaultsError, match="3 faults"):
        prepared(*given)
    errors = {kind["what"]: kind["places"] for kind in report_of(tmp_path)["findings"] if kind["severity"] == "error"}
    assert {"has no mask", "has no image"} < errors.keys() and len(errors) == 3
    assert errors["has no mask"][0]["file"] == str(root / "images/photo_00_0.png")
    prepared(*given, "data.on_error=skip")
    report = report_of(tmp_path)
    assert report["status"] == "ready" and report["n_cases"] == 30 and len(report["cases"]) == 29
    assert len(report["set_aside"]) == 3 and str(root / "masks/photo_00_1.png") in report["set_aside"]


def test_files_that_a_table_names_and_nobody_has_are_set_aside_by_name(crack_root: Path, tmp_path: Path) -> None:
    root = tmp_path / "raw"
    shutil.copytree(crack_root, root)
    rows = [f"images/{file.name},masks/{file.name},{file.stem[:8]}" for file in sorted((root / "images").iterdir())]
    (root / "cases.csv").write_text("\n".join(["image,mask,group", *rows, "images/none.png,masks/none.png,x"]))
    given = ["data=photos", f"data.root={root}", "data.table=cases.csv", f"paths.cache_dir={tmp_path}"]
    with pytest.raises(FaultsError, match=r"2 faults[\s\S]*images/none\.png[\s\S]*data\.on_error=skip"):
        prepared(*given)
    prepared(*given, "data.on_error=skip")
    report = report_of(tmp_path)
    assert report["status"] == "ready" and len(report["cases"]) == 32
    assert set(report["set_aside"]) == {str(root / "images/none.png"), str(root / "masks/none.png")}


def test_where_hardly_a_file_has_a_partner_the_names_are_told_once(crack_root: Path, tmp_path: Path) -> None:
    root = tmp_path / "raw"
    shutil.copytree(crack_root, root)
    for mask in sorted((root / "masks").iterdir())[3:]:
        mask.unlink()
    with pytest.raises(DataError, match="29 images without mask"):
        prepared("data=photos", f"data.root={root}", f"paths.cache_dir={tmp_path}")


def test_bad_cases_are_set_aside_by_name_on_request(
    crack_root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = tmp_path / "raw"
    shutil.copytree(crack_root, root)
    (root / "images/photo_03_2.png").write_bytes(b"no photo")
    prepared("data=crack", f"data.root={root}", f"paths.cache_dir={tmp_path}", "data.on_error=skip")
    report = report_of(tmp_path)
    assert (report["status"], report["set_aside"]) == ("ready", ["photo_03_2"]) and len(report["cases"]) == 31
    assert "set aside   photo_03_2" in capsys.readouterr().out


def test_the_screen_tells_files_of_one_name_apart_and_a_file_of_several_cases_once() -> None:
    shared = Finding("error", "holds values", "2 (7 pixels)", "set data.channels=[t1,t2]", "/data/land.tif")
    others = [Finding("note", "is a palette mask", "mode P", "nothing", f"/data/tile {n}/a[b].png") for n in (1, 2)]
    found = grouped([shared, *others])
    report = {"findings": found, "root": "/data", "classes": [], "n_cases": 2, "counts": {"error": 1, "note": 2}}
    console = Console(markup=False, file=StringIO(), width=200)
    show_report({**report, "fingerprint": {}, "set_aside": []}, console)
    told = console.file.getvalue()
    assert "land.tif: 2 (7 pixels)" in told and "set data.channels=[t1,t2]" in told
    assert "tile 1/a[b].png: mode P" in told and "tile 2/a[b].png: mode P" in told


def test_a_mask_of_several_cases_is_one_fault(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for name in ("one", "two"):
        Image.fromarray(rng.integers(0, 255, (40, 40, 3), np.uint8)).save(tmp_path / f"{name}.png")
    Image.fromarray(np.full((40, 40), 7, np.uint8)).save(tmp_path / "land.tif")
    patterns = ["data.images='{case}.png'", "data.masks=land.tif", "data.classes={a:0,b:1}"]
    with pytest.raises(DataError):
        prepared("data=photos", f"data.root={tmp_path}", f"paths.cache_dir={tmp_path / 'cache'}", *patterns)
    assert report_of(tmp_path / "cache")["counts"]["error"] == 1


def test_what_is_wrong_before_any_file_is_read_stands_in_the_report(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="missing"):
        prepared("data=crack", f"data.root={tmp_path / 'nowhere'}", f"paths.cache_dir={tmp_path}")
    report = report_of(tmp_path)
    assert report["status"] == "refused" and report["counts"] == {"error": 1, "warning": 0, "note": 0}


def test_what_is_stored_is_listed_and_freed(
    crack_root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place = f"paths.cache_dir={tmp_path}"
    prepared("data=crack", f"data.root={crack_root}", place)
    gc.collect()  # the store is open as long as anything knows it
    capsys.readouterr()
    prepared("what=list", "format=json", place)
    listed = json.loads(capsys.readouterr().out)
    assert [Path(store["folder"]).name[:6] for store in listed["stores"]] == ["crack-"] and listed["loose"] == []
    prepared("what=list", place)
    assert "0 days ago" in capsys.readouterr().out
    prepared("what=clean", place)
    assert "0 data set(s) and 0 case(s) removed" in capsys.readouterr().out
    prepared("what=clean", "keep_days=0", place)
    assert "1 data set(s) and 32 case(s) removed" in capsys.readouterr().out
    assert not list(tmp_path.glob("prepared/entries/*"))


def test_an_unknown_task_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"data\|list\|clean"):
        prepared("what=wash")


def test_a_download_shows_its_licence_first(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"Task03_Liver\.tar \(28\.9 GB\) under CC BY-SA 4\.0"):
        prepared("data=lits", f"data.root={tmp_path / 'lits'}", "data.download=true")
    with pytest.raises(ConfigError, match="no official archive for data=em"):
        prepared("data=em", f"data.root={tmp_path / 'em'}", "data.download=true")
    assert not list(tmp_path.iterdir())


@pytest.fixture(scope="module")
def copied_root(crack_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The photos and a copy of one of them as a photo of its own."""
    root = tmp_path_factory.mktemp("copied") / "raw"
    shutil.copytree(crack_root, root)
    for folder in ("images", "masks"):
        shutil.copy(root / folder / "photo_00_0.png", root / folder / "other.png")
    with (root / "groups.csv").open("a") as stream:
        stream.write("other.png,other\n")
    return root


def test_a_leak_is_reported_beside_the_cases_that_were_set_aside(copied_root: Path, tmp_path: Path) -> None:
    root = tmp_path / "raw"
    shutil.copytree(copied_root, root)
    (root / "images/photo_03_2.png").write_bytes(b"no photo")
    split = tmp_path / "split.json"
    groups = ["photo_01", "photo_02", "photo_03", "photo_04", "photo_05", "photo_06", "photo_07", "photo_00"]
    split.write_text(json.dumps({"train": groups, "val": [], "test": ["other"]}))
    where = [f"data.root={root}", f"paths.cache_dir={tmp_path / 'cache'}", f"data.split_file={split}"]
    with pytest.raises(DataError, match="show the same and stand in two splits"):
        prepared("data=crack", *where, "data.on_error=skip")
    report = report_of(tmp_path / "cache")
    errors = [kind["what"] for kind in report["findings"] if kind["severity"] == "error"]
    assert len(errors) == 2 and "stand in two splits" in "".join(errors) and report["set_aside"] == ["photo_03_2"]


def test_warnings_are_counted_in_one_line_that_leads_to_the_report(copied_root: Path, tmp_path: Path) -> None:
    where = {"root": str(copied_root), "cache_dir": str(tmp_path)}
    line = doubts(CrackData(**where, on_leak="warn").load())
    assert line is not None and line.startswith(
        "1 warning(s) about the data: shows the same as an image of another group"
    )
    assert line.endswith("type python src/prepare.py with the same data=... for the report")
    prepared("data=crack", f"data.root={copied_root}", f"paths.cache_dir={tmp_path}", "data.on_leak=warn")
    told = doubts(CrackData(**where, on_leak="warn").load())
    assert told is not None and Path(told.rpartition("; ")[2]).is_file()


def test_sound_data_needs_no_line(crack_root: Path, cache_dir: Path) -> None:
    assert doubts(CrackData(root=str(crack_root), cache_dir=str(cache_dir)).load()) is None


@pytest.mark.slow
def test_a_training_starts_with_that_line(copied_root: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    where = [f"data.root={copied_root}", f"paths.cache_dir={tmp_path / 'cache'}", "data.on_leak=warn"]
    train_in(tmp_path / "run", *TINY_CRACK, "data=crack", *where, "trainer.max_epochs=1", "logger=[]")
    assert sum("1 warning(s) about the data" in record.message for record in caplog.records) == 1
