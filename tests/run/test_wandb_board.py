"""What W&B shows, read back offline: axes, summaries, layers, the table of cases, plots, artifacts, names, alerts."""

import hashlib
import json
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import wandb
from PIL import Image
from run_jobs import HARDWARE, composed, read
from wandb_log import WandbLog, offline_files, read_wandb

from seglab.errors import ConfigError, TrainingError
from seglab.run.evaluate import evaluate
from seglab.run.tracking.wandb_board import case_table, class_plots
from seglab.run.tracking.wandb_identity import identity
from seglab.run.tracking.wandb_run import close_wandb, open_wandb
from seglab.run.tracking.wandb_settings import WandbSettings

Train = Callable[..., dict[str, float]]
SHORT = ["trainer.max_epochs=2", "trainer.limit_train_batches=2", "trainer.log_every_n_steps=1"]


@pytest.fixture(scope="module")
def board(crack_run: tuple[Path, dict[str, float]]) -> WandbLog:
    return read_wandb(crack_run[0])


def test_every_metric_has_an_axis_of_ours_and_scores_and_losses_have_their_best(board: WandbLog) -> None:
    assert board.metrics["val/dice/*"] == ("epoch", {"max", "last"})
    assert board.metrics["val/loss"] == ("epoch", {"min", "last"}) == board.metrics["train/loss"]
    assert board.metrics["train/step_*"] == ("trainer/global_step", {"min", "last"})
    assert {axis for axis, _ in board.metrics.values()} == {"", "epoch", "trainer/global_step"}
    for row in board.history:
        assert "trainer/global_step" in row, row
    dice = [row["val/dice/crack"] for row in board.history if "val/dice/crack" in row]
    losses = [row["val/loss"] for row in board.history if "val/loss" in row]
    assert len(dice) == 2
    assert board.summary["val/dice/crack"] == {"max": max(dice), "last": dice[-1]}
    assert board.summary["val/loss"] == {"min": min(losses), "last": losses[-1]}
    assert board.summary["best/val/dice/mean"] == max(dice), "a sweep is led by a plain number"


def test_the_same_cases_are_shown_each_time_with_three_layers_of_one_size_and_a_caption(board: WandbLog) -> None:
    shown = [key.removesuffix(".captions") for row in board.history for key in row if key.endswith(".captions")]
    first, last = shown[: len(shown) // 3], shown[len(shown) // 3 : 2 * len(shown) // 3]
    assert len(shown) == 12 and first == last and all(key.startswith("val_images/") for key in first)
    for key in (first[0], shown[-1]):
        layers = {name: np.array(Image.open(file)) for name, file in board.layers(key).items()}
        assert sorted(layers) == ["error", "ground_truth", "prediction"]
        true, pred, error = (layers[name] for name in ("ground_truth", "prediction", "error"))
        assert np.array_equal(error == 1, (true == 1) & (pred == 1))
        assert np.array_equal(error == 2, (true == 0) & (pred == 1))
        assert np.array_equal(error == 3, (true == 1) & (pred == 0))
        (text,) = [row[f"{key}.captions"] for row in board.history if f"{key}.captions" in row][-1]
        dice = 2 * (error == 1).sum() / ((true == 1).sum() + (pred == 1).sum())
        assert f"case={key.partition('/')[2]}" in text and text.endswith(f"dice={dice:.3f}")
    labels = board.config["_wandb"]["mask/class_labels"]
    (error_labels,) = (v["value"] for k, v in labels.items() if first[0] in k and k.endswith("error"))
    assert [error_labels[n] for n in "123"] == ["hit (TP)", "extra (FP)", "missed (FN)"]


def test_the_table_of_cases_has_a_row_per_case_worst_first_and_the_confusion_is_that_of_the_test(
    board: WandbLog, crack_run: tuple[Path, dict[str, float]]
) -> None:
    table, scores = board.table("test/cases"), crack_run[1]
    assert len(table["data"]) == 8 and table["columns"][:4] == ["case", "dice/mean", "group", "dice/crack"]
    dice = [row[1] for row in table["data"] if row[1] is not None]
    assert dice == sorted(dice) and np.mean(dice) == pytest.approx(scores["test/case_dice/crack"])
    counts = {(true, pred): n for true, pred, n in board.table("test/confusion_table")["data"]}
    hit, missed, extra = (
        counts[pair] for pair in (("crack", "crack"), ("crack", "background"), ("background", "crack"))
    )
    assert 2 * hit / (2 * hit + missed + extra) == pytest.approx(scores["test/dice/crack"])
    (row,) = (row for row in board.history if "test/case_dice_histogram/crack.values" in row)
    assert sum(row["test/case_dice_histogram/crack.values"]) == len(dice)
    assert row["test/case_dice_histogram/crack.bins"][0] == 0 and row["test/case_dice_histogram/crack.bins"][-1] == 1
    assert len(board.table("test/dice_by_size/crack_table")["data"]) == len(dice)


def test_a_class_that_is_nowhere_is_an_empty_cell_and_its_case_comes_last() -> None:
    rows = [{"case": name, "dice/a": dice, "n_true/a": 1} for name, dice in (("x", 0.5), ("y", math.nan), ("z", 0.0))]
    columns, data = case_table(rows, ["a"])
    assert columns == ["case", "dice/mean", "dice/a", "n_true/a"]
    assert [row[:2] for row in data] == [["z", 0.0], ["x", 0.5], ["y", None]]
    assert class_plots([rows[1]], "a") == {}


def test_split_scores_pictures_code_and_checkpoint_are_artifacts_that_lie_in_the_run_folder(
    board: WandbLog, crack_run: tuple[Path, dict[str, float]]
) -> None:
    run_dir, scores = crack_run
    model = board.artifact("model")
    assert "best" in model.aliases and model.metadata["score"] == read(run_dir / "result.json")["value"]
    assert model.metadata["best/val/dice/mean"] == scores["best/val/dice/mean"]
    record = read(run_dir / "run.json")
    for name in ("config_hash", "data_hash", "git_commit"):
        assert model.metadata[name] == record[name]
    best = run_dir / "checkpoints" / "best.ckpt"
    sent = Path(model.files["best.ckpt"])
    assert sent.samefile(best), "a second name, no second copy"
    assert set(board.artifact("report").files) >= {"run.json", "metrics.json", "cases.csv", "result.json"}
    assert set(board.artifact("split").files) == {"split.json"}
    assert "test.png" in board.artifact("pictures").files
    code = {name for artifact in board.artifacts if artifact.kind == "code" for name in artifact.files}
    assert {"train.py", "seglab/run/fit.py", "train.yaml"} <= code
    assert {Path(name).suffix for name in code} == {".py", ".yaml"}
    for artifact in board.artifacts:
        for file in artifact.files.values():
            assert Path(file).is_file() and run_dir in Path(file).parents, file
    content = json.loads(Path(board.artifact("report").files["metrics.json"]).read_text())
    assert content == read(run_dir / "metrics.json")


def test_a_checkpoint_that_a_resumed_run_replaces_stays_what_was_sent(train: Train, tmp_path: Path) -> None:
    train(tmp_path, *SHORT, "trainer.max_epochs=1", "test=false", "logger.wandb.code=false")
    sent = Path(read_wandb(tmp_path).artifact("model").files["best.ckpt"])
    before = hashlib.sha256(sent.read_bytes()).hexdigest()
    best = tmp_path / "checkpoints" / "best.ckpt"
    best.with_suffix(".new").write_bytes(b"another")
    best.with_suffix(".new").replace(best)
    assert hashlib.sha256(sent.read_bytes()).hexdigest() == before


def test_of_a_large_checkpoint_only_the_place_is_sent_and_switches_leave_code_files_and_test_out(
    train: Train, tmp_path: Path
) -> None:
    off = ["logger.wandb.code=false", "logger.wandb.files=false", "logger.wandb.watch=gradients"]
    train(
        tmp_path, *SHORT, "trainer.max_epochs=1", *off, "logger.wandb.watch_every=1", "logger.wandb.checkpoint_mb=0.1"
    )
    log = read_wandb(tmp_path)
    kinds = [artifact.kind for artifact in log.artifacts if artifact.kind != "run_table"]
    assert kinds == ["model"]
    assert log.artifact("model").files == {"best.ckpt": (tmp_path / "checkpoints" / "best.ckpt").as_uri()}
    rows = [row for row in log.history if any(key.startswith("gradients/") for key in row)]
    assert rows and all("trainer/global_step" in row for row in rows)


def test_a_run_is_named_grouped_and_tagged_from_its_record(board: WandbLog, tmp_path: Path) -> None:
    assert (board.run_id, board.name, board.job_type) == ("crack", "UNet-crack-crack", "train")
    assert set(board.tags) == {"UNet", "crack"} and board.config["facts"]["world_size"] == 1
    record = {"run_id": "sweep-1-3", "spec": {"name": "ct"}, "config": {"model": {"_target_": "a.SMP", "arch": "FPN"}}}
    told = identity(WandbSettings(tags=["mine", "ct"], notes="n"), tmp_path / "sweep-1" / "3", record, "train")
    assert told["group"] == "sweep-1" and told["name"] == "FPN-ct-sweep-1-3" and told["id"] == "sweep-1-3"
    assert told["tags"] == ["FPN", "ct", "mine"] and told["notes"] == "n"
    told = identity(WandbSettings(group="g", name="x"), tmp_path / "sweep-1" / "3", record, "evaluate")
    assert (told["group"], told["name"], told["job_type"]) == ("g", "x", "evaluate")


@pytest.mark.parametrize(
    ("code", "error", "group", "title"),
    [
        (0, None, None, "finished: a"),
        (0, None, "sweep", None),
        (1, TrainingError("loss", given="nan", allowed="numbers", fix="x"), "sweep", "diverged: a"),
        (1, ZeroDivisionError("at https://u:pass@host"), None, "crash: a"),
        (143, None, None, None),
    ],
)
def test_alerts_tell_of_nan_crash_and_end(
    code: int, error: BaseException | None, group: str | None, title: str | None, tmp_path: Path
) -> None:
    settings = WandbSettings(group=group, alerts=["diverged", "crash", "finished"])
    open_wandb(settings, tmp_path, {"run_id": "a", "config": {"logger": {"wandb": vars(settings)}}})
    close_wandb(code, error)
    alerts = read_wandb(tmp_path).alerts
    assert [found for found, _ in alerts] == ([title] if title else [])
    assert "pass" not in str(alerts) and wandb.run is None and len(offline_files(tmp_path)) == 1


@pytest.mark.parametrize(
    "wrong", [{"alerts": [float("nan"), "crash"]}, {"watch": "weights"}, {"watch": "all", "watch_every": 0}], ids=str
)
def test_an_unknown_alert_or_thing_to_watch_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match=r"set logger\.wandb\."):
        WandbSettings(**wrong)  # type: ignore[arg-type]


def test_an_evaluation_is_a_run_of_its_own_with_its_scores_cases_pictures_and_report(
    crack_run: tuple[Path, dict[str, float]], tmp_path: Path
) -> None:
    run_dir, output = crack_run[0], tmp_path / "late"
    overrides = [f"run={run_dir}", f"output={output}", "metrics=[surface]", "data.num_workers=0", "wandb=true"]
    scores = evaluate(composed("evaluate", [*HARDWARE, *overrides]))
    log = read_wandb(output)
    assert (log.job_type, log.run_id, log.exit_code) == ("evaluate", f"{run_dir.name}-evaluate-late", 0)
    assert {"evaluate", "crack"} <= set(log.tags)
    assert log.summary["test/case_hd95/crack"] == pytest.approx(scores["test/case_hd95/crack"])
    table = log.table("test/cases")
    assert (
        "hd95/crack" in table["columns"]
        and len(table["data"]) == len((output / "cases.csv").read_text().splitlines()) - 1
    )
    shown = [key.removesuffix(".masks") for key in log.logged() if key.startswith("test_images/")]
    assert any(key.endswith(".all_masks") for key in shown)
    assert {"report.html", "cases.csv", "metrics.json"} <= set(log.artifact("report").files)
    assert log.artifact("report").metadata["run_id"] == read(run_dir / "run.json")["run_id"]
    assert not any(artifact.kind == "model" for artifact in log.artifacts)
