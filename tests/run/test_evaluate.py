"""One set of test numbers: after training, from evaluate, and from the files that predict writes."""

import csv
import re
import shutil
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest
import torch
from run_jobs import HARDWARE, SMALL, composed, read, same, train_in

from seglab.data.formats import nifti, photo_labels, raster_labels
from seglab.data.module import SegmentationData
from seglab.errors import CheckpointError, ConfigError, DataError
from seglab.metrics.cases import case_scores, summarise
from seglab.metrics.confusion import count
from seglab.metrics.report import scores
from seglab.run.build import build_data
from seglab.run.evaluate import evaluate
from seglab.run.predict import predict
from seglab.spec import DataSpec

Run = tuple[Path, dict[str, float]]
SHORT = ["trainer.max_epochs=1", "trainer.limit_train_batches=2", "trainer.limit_val_batches=1", "logger=csv"]
SPLIT = ["data.val_fraction=0.125", "data.test_fraction=0.125"]
UNET = ["model.base_channels=4", "data.batch_size=2"]
KINDS = {
    "crack": [*UNET, "data.patch_size=[64,64]", "trainer.precision=auto"],
    "lits": ["data=lits", *UNET, "data.n_slices=3", "data.patch_size=[64,64]"],
    "lits-3d": ["data=lits", "data.dims=3", *UNET, "data.patch_size=[16,64,64]"],
    "satellite": ["data=satellite", *UNET, "data.patch_size=[64,64]", "trainer.precision=bf16-mixed"],
}
ENDINGS = {"photo": ".png", "volume": ".nii.gz", "raster": ".tif"}


def score(*overrides: str) -> dict[str, float]:
    return evaluate(composed("evaluate", [*HARDWARE, "data.num_workers=0", *overrides]))


def scores_of_files(run_dir: Path, folder: Path) -> dict[str, float]:
    """All test metrics from label files alone: what a reader without seglab's test loop would compute."""
    record = read(run_dir / "run.json")
    spec = DataSpec.from_dict(record["spec"])
    config = {**record["config"], "data": {**record["config"]["data"], "split_file": str(run_dir / "split.json")}}
    data = build_data(config).load(spec=spec)
    total, rows = torch.zeros(spec.num_classes, spec.num_classes, dtype=torch.int64), []
    for case in sorted(data.test_records, key=lambda case: case.id):
        pred = labels_of(folder / f"{case_stem(case.image_file)}{ENDINGS[spec.kind]}", spec)
        counts = count(pred, torch.from_numpy(np.array(data.store.mask(case.id))), spec.num_classes)
        total += counts
        rows.append({"group": case.group, **case_scores(counts, spec.class_names, has_background=spec.has_background)})
    assert (total.sum(dim=0) > 0).sum() > 1, "a network that names one class only proves little"
    pooled = scores(total, spec.class_names, has_background=spec.has_background)
    values = pooled | summarise(rows, spec.class_names, has_background=spec.has_background)
    return {f"test/{name}": float(value) for name, value in values.items()}


def part(scores: dict[str, float], names: Iterable[str]) -> dict[str, float]:
    return {name: scores[name] for name in names}


def csv_rows(file: Path) -> list[dict[str, str]]:
    with file.open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def case_stem(image_file: str) -> str:
    return Path(image_file).name.removesuffix(".gz").rpartition(".")[0]


def labels_of(file: Path, spec: DataSpec) -> torch.Tensor:
    if spec.kind == "volume":
        return torch.from_numpy(nifti.read_mask(file))
    if spec.kind == "photo":
        return torch.from_numpy(photo_labels.read_binary_mask(file))
    return torch.from_numpy(raster_labels.read_mask(file, values=None))


@pytest.mark.parametrize(
    "kind", [pytest.param(kind, marks=pytest.mark.slow if kind.startswith("lits") else ()) for kind in KINDS]
)
def test_test_after_fit_equals_evaluate_equals_the_predicted_files(
    kind: str, tmp_path: Path, request: pytest.FixtureRequest, cache_dir: Path
) -> None:
    roots = {"crack": "crack_root", "lits": "ct_root", "lits-3d": "ct_root", "satellite": "scene_root"}
    root = request.getfixturevalue(roots[kind])
    run_dir, copies, labels = tmp_path / "run", tmp_path / "copies", tmp_path / "labels"
    data = [f"data.root={root}", f"paths.cache_dir={cache_dir}"]
    after_fit = train_in(run_dir, *SMALL, *SHORT, *SPLIT, *KINDS[kind], *data, "inference.overlap=0.25")

    evaluated = score(f"run={run_dir}")
    tested = {name: value for name, value in after_fit.items() if name.startswith("test/")}
    assert same(part(evaluated, tested), tested) and same(tested, read(run_dir / "metrics.json"))
    assert same(evaluated, read(run_dir / "evaluate" / "test" / "metrics.json"))
    more, rows = (csv_rows(folder / "cases.csv") for folder in (run_dir / "evaluate" / "test", run_dir))
    assert [{name: row[name] for name in rows[0]} for row in more] == rows

    copies.mkdir()
    for file in test_images(run_dir):
        shutil.copy(file, copies)
    predict(composed("predict", [*HARDWARE[::2], f"run={run_dir}", f"input={copies}", f"output={labels}"]))
    assert same(scores_of_files(run_dir, labels), tested)


def test_images(run_dir: Path) -> list[Path]:
    """Image files of the test cases of a run."""
    record = read(run_dir / "run.json")
    spec = DataSpec.from_dict(record["spec"])
    config = {**record["config"], "data": {**record["config"]["data"], "split_file": str(run_dir / "split.json")}}
    loaded: SegmentationData = build_data(config).load(spec=spec)
    return [Path(case.image_file) for case in loaded.test_records]


test_images.__test__ = False  # type: ignore[attr-defined]


def test_another_folder_is_scored_as_a_whole_with_the_intensity_of_the_run(crack_run: Run, tmp_path: Path) -> None:
    run_dir, _ = crack_run
    other = tmp_path / "other"
    for name in ("images", "masks"):
        (other / name).mkdir(parents=True)
        for file in test_images(run_dir):
            shutil.copy(file.parent.with_name(name) / file.name, other / name)
    scored = score(f"run={run_dir}", f"data.root={other}", f"output={tmp_path / 'out'}")
    tested = {name: value for name, value in read(run_dir / "metrics.json").items() if "/ci_" not in name}
    assert same(part(scored, tested), tested)  # the intervals differ: this folder has no groups.csv
    assert len((tmp_path / "out" / "cases.csv").read_text().splitlines()) == 1 + len(test_images(run_dir))


def test_evaluate_scores_each_split_and_the_chosen_checkpoint(crack_run: Run, tmp_path: Path) -> None:
    run_dir, scores = crack_run
    val = score(f"run={run_dir}", "split=val", f"output={tmp_path}", "checkpoint=best")
    assert val["test/dice/crack"] == pytest.approx(scores["best/val/dice/crack"], abs=1e-6)
    everything = score(f"run={run_dir}", "split=all", f"output={tmp_path}", "checkpoint=last")
    assert everything["test/case_dice/crack/n"] + everything["test/case_dice/crack/n_empty"] == 32


@pytest.mark.parametrize(
    ("overrides", "error", "words"),
    [
        (["metrics=[surfaces]"], ConfigError, "surface, boundary"),
        (["postprocess=yes"], ConfigError, "stored, auto, none"),
        (["subgroups=[scanner]"], ConfigError, "n_true/crack"),
        (["predictions=folder"], ConfigError, "one thing"),
        (["split=tset"], ConfigError, "train, val, test, all"),
        (["checkpoint=bets"], CheckpointError, "best, last"),
        (["trainer.devices=9"], DataError, "9 process"),
        (["trainer.precision=half"], ConfigError, "bf16-mixed"),
        (["+trainer.devces=1"], ConfigError, "trainer.devices"),
        (["data.root=/nowhere"], DataError, "/nowhere"),
    ],
)
def test_what_cannot_be_evaluated_is_refused(
    crack_run: Run, tmp_path: Path, overrides: list[str], error: type[Exception], words: str
) -> None:
    with pytest.raises(error) as caught:
        score(f"run={crack_run[0]}", f"output={tmp_path}", *overrides)
    assert words in str(caught.value)


def test_data_of_another_kind_is_refused(crack_run: Run, scene_root: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError):
        score(f"run={crack_run[0]}", f"data.root={scene_root}", f"output={tmp_path}")


def test_no_run_names_the_runs_that_are_there(crack_run: Run) -> None:
    with pytest.raises(CheckpointError) as caught:
        score(f"run={crack_run[0].parent / 'crak'}")
    assert str(crack_run[0]) in caught.value.fix


def test_an_output_folder_that_cannot_be_written_is_refused(crack_run: Run, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="output=<another folder>"):
        score(f"run={crack_run[0]}", f"output={tmp_path / 'file' / 'below'}")


def test_evaluate_measures_cases_shares_them_out_and_reports(crack_run: Run, tmp_path: Path) -> None:
    overrides = ["metrics=[surface,thin,calibration]", "tolerance=3", "subgroups=[group,n_true/crack]"]
    found = score(f"run={crack_run[0]}", f"output={tmp_path}", *overrides)
    assert {"test/case_hd95/crack", "test/case_cldice/crack/ci_low", "test/case_ece", "test/ece"} <= set(found)
    assert not any("boundary_iou" in name for name in found)
    rows = csv_rows(tmp_path / "cases.csv")
    assert {"case", "group", "hd95/crack", "length_true/crack", "ece"} <= set(rows[0])
    assert not any(name.startswith("_") for name in rows[0])
    groups = read(tmp_path / "subgroups.json")
    assert sum(part["n_cases"] for part in groups["group"].values()) == len(rows)
    assert found["test/ece"] == pytest.approx(np.mean([float(row["ece"]) for row in rows]), abs=0.2)

    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert not re.findall(r"(?:src|href)=[\"'](?!data:|#)", page) and "http" not in page.replace("http-equiv", "")
    assert all(f"<td>{row['case']}</td>" in page for row in rows)
    pictures = list((tmp_path / "cases").glob("*.jpg"))
    assert 0 < len(pictures) <= 12 and page.count("data:image/jpeg") == len(pictures)


def test_the_postprocessing_is_chosen_on_validation_cases_kept_and_applied(crack_run: Run, tmp_path: Path) -> None:
    run_dir = tmp_path / "run"
    shutil.copytree(crack_run[0], run_dir)
    plain = score(f"run={run_dir}", f"output={tmp_path / 'plain'}", "metrics=[]")
    score(f"run={run_dir}", f"output={tmp_path / 'auto'}", "metrics=[]", "postprocess=auto")
    chosen = read(run_dir / "postprocess.json")
    assert chosen["chosen_on"] == "val" and set(chosen["considered"]) == {"crack"}

    (run_dir / "postprocess.json").write_text('{"threshold": 0.9999, "steps": {"1": {"min_size": 1e9}}}')
    stored = score(f"run={run_dir}", f"output={tmp_path / 'stored'}", "metrics=[]")
    assert stored["test/recall/crack"] == 0 != plain["test/recall/crack"]
    ignored = score(f"run={run_dir}", f"output={tmp_path / 'none'}", "metrics=[]", "postprocess=none")
    assert same(ignored, plain)
