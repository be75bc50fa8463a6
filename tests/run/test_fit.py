"""A finished run leaves everything behind, a failed one says so, and what cannot work is refused before it starts."""

import csv
import math
import traceback
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import wandb
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import OmegaConf
from run_jobs import TINY_CRACK, composed, read, train_in
from wandb_log import offline_files, read_wandb

from seglab.errors import ConfigError, DataError, SeglabError
from seglab.run.fit import check_mode, fit
from seglab.run.tracking.metrics_file import read_metrics

Run = tuple[Path, dict[str, float]]
Train = Callable[..., dict[str, float]]


def test_a_run_leaves_configuration_split_scores_checkpoints_and_picture(crack_run: Run) -> None:
    run_dir, scores = crack_run
    record, metrics, result = (read(run_dir / f"{name}.json") for name in ("run", "metrics", "result"))
    assert record["run_id"] == "crack" and record["config"]["trainer"]["max_epochs"] == 2
    assert record["n_cases"] == {"all": 32, "train": 20, "val": 4, "test": 8} and record["world_size"] == 1
    assert record["precision"] == "32-true" and record["spec"]["class_names"] == ["background", "crack"]
    assert sorted(read(run_dir / "split.json")) == ["test", "train", "val"]
    assert metrics.items() <= result.items() and result["status"] == "finished"
    assert {key for key in scores if key.startswith("test/")} == set(metrics)
    kept = ["best.ckpt", "last.ckpt", "manifest.json", "previous.ckpt"]
    assert sorted(file.name for file in (run_dir / "checkpoints").iterdir()) == kept
    assert (run_dir / "images" / "test.png").stat().st_size > 10_000


def test_the_table_of_cases_has_a_row_for_each_test_case(crack_run: Run) -> None:
    run_dir, scores = crack_run
    rows = list(csv.DictReader((run_dir / "cases.csv").open()))
    split = read(run_dir / "split.json")["test"]
    assert len(rows) == 8 and {row["case"].rpartition("_")[0] for row in rows} == set(split)
    dice = [float(row["dice/crack"]) for row in rows if row["dice/crack"]]
    assert scores["test/case_dice/crack"] == pytest.approx(sum(dice) / len(dice), rel=1e-12)


def test_the_log_has_each_epoch_and_the_kept_scores_belong_to_one_epoch(crack_run: Run) -> None:
    run_dir, scores = crack_run
    rows = read_metrics(run_dir)
    by_epoch = {row["epoch"]: row["val/dice/mean"] for row in rows if "val/dice/mean" in row}
    losses = {row["epoch"]: row["train/loss"] for row in rows if "train/loss" in row}
    assert set(by_epoch) == set(losses) == {0, 1}
    assert scores["best/epoch"] == max(by_epoch, key=lambda epoch: by_epoch[epoch])
    assert scores["best/val/dice/mean"] == max(by_epoch.values())
    assert read(run_dir / "result.json")["value"] == max(by_epoch.values())


def test_wandb_gets_one_offline_run_with_configuration_history_and_exit_code_zero(crack_run: Run) -> None:
    run_dir, scores = crack_run
    assert len(offline_files(run_dir)) == 1 and "offline-run" in str(offline_files(run_dir)[0])
    log = read_wandb(run_dir)
    assert log.run_id == "crack" and log.exit_code == 0
    assert log.config["model"]["base_channels"] == 4 and log.config["trainer"]["max_epochs"] == 2
    keys = set().union(*log.history)
    assert {"train/loss", "train/lr", "train/step_loss", "val/loss", "val/dice/crack", "best/epoch", "epoch"} <= keys
    assert {f"test/{name}" for name in ("dice/crack", "iou/mean", "case_dice/crack/n_missed")} <= keys
    assert any(key.startswith("test_images/") for key in keys)
    last = [row for row in log.history if "test/dice/crack" in row]
    assert len(last) == 1 and last[0]["test/dice/crack"] == pytest.approx(
        scores["test/dice/crack"], rel=1e-6
    )  # logged as float32


def test_a_second_run_in_one_process_has_a_wandb_run_of_its_own(train: Train, tmp_path: Path) -> None:
    short = ["trainer.max_epochs=1", "trainer.limit_train_batches=1", "test=false"]
    for name, rate in (("first", 0.25), ("second", 0.5)):
        train(tmp_path / name, *short, f"optimizer.lr={rate}")
        log = read_wandb(tmp_path / name)
        assert log.run_id == name and log.exit_code == 0 and log.config["optimizer"]["lr"] == rate
        assert len(offline_files(tmp_path / name)) == 1 and wandb.run is None


def test_a_training_that_fails_is_marked_as_failed(train: Train, tmp_path: Path) -> None:
    def explode(_: torch.nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
        if not inputs[0].is_meta:  # the check of the patch runs without numbers
            raise ZeroDivisionError("on purpose")

    hook = torch.nn.modules.module.register_module_forward_pre_hook(explode)
    try:
        with pytest.raises(ZeroDivisionError):
            train(tmp_path, "trainer.max_epochs=1", "trainer.limit_train_batches=1")
    finally:
        hook.remove()
    assert read_wandb(tmp_path).exit_code == 1 and wandb.run is None
    result = read(tmp_path / "result.json")
    assert result["status"] == "failed" and "on purpose" in result["error"]


def test_without_validation_the_last_epoch_is_kept_and_tested(train: Train, tmp_path: Path) -> None:
    scores = train(tmp_path, "data.val_fraction=0", "trainer.max_epochs=2", "trainer.limit_train_batches=1")
    kept = torch.load(tmp_path / "checkpoints" / "best.ckpt", weights_only=True)
    assert kept["epoch"] == 1 and scores["best/epoch"] == 1 and math.isfinite(scores["test/dice/crack"])
    assert read(tmp_path / "split.json")["val"] == []


def test_validation_that_never_comes_counts_as_none(train: Train, tmp_path: Path) -> None:
    short = ["trainer.max_epochs=1", "trainer.limit_train_batches=1", "logger=csv"]
    scores = train(tmp_path, *short, "trainer.check_val_every_n_epoch=5")
    assert scores["best/epoch"] == 0 and math.isfinite(scores["test/dice/crack"])


def test_a_folder_that_holds_a_run_is_not_written_again(crack_run: Run, train: Train) -> None:
    with pytest.raises(ConfigError, match="resume="):
        train(crack_run[0])


@pytest.mark.parametrize(
    ("overrides", "error", "words"),
    [
        (["callbacks.checkpoint.monitor=val/dice/mena"], ConfigError, "set callbacks.checkpoint.monitor=val/dice/mean"),
        (["data.patch_size=[16,16]", "data.batch_size=1"], ConfigError, "data.batch_size=2"),
        (["+model.in_channels=5"], ConfigError, "leave model.in_channels out"),
        (["model.n_poolings=four"], ConfigError, "n_poolings"),
        (["trainer.precision=half"], ConfigError, "trainer.precision=auto"),
        (["trainer.accelerator=abacus"], ConfigError, "abacus"),
        (["trainer.devices=0"], ConfigError, "trainer.devices=1"),
        (["trainer.max_epochs=-1"], ConfigError, "trainer.max_epochs"),
        (["trainer.devices=5"], DataError, "set trainer.devices=4, or a larger data.val_fraction"),
        (
            ["trainer.devices=9", "data.val_fraction=0"],
            DataError,
            "set trainer.devices=8, or a larger data.test_fraction",
        ),
        (["trainer.devices=40", "data.val_fraction=0", "data.test_fraction=0"], DataError, "set trainer.devices=32"),
        (["data.root=/nowhere"], DataError, "/nowhere"),
        (["data.dims=3"], ConfigError, "data.dims=2"),
        (["+callbacks.checkpoint.dirpath=/tmp/elsewhere"], ConfigError, "leave callbacks.checkpoint.dirpath out"),
        (["+callbacks.mine.patience=3"], ConfigError, "does not say what to build"),
        (["logger.wandb.mode=onlin"], ConfigError, "online"),
        (["loss.terms.dice._target_=os.system"], ConfigError, "os.system"),
    ],
)
def test_what_cannot_work_is_refused_before_the_training(
    train: Train, tmp_path: Path, overrides: list[str], error: type[SeglabError], words: str
) -> None:
    with pytest.raises(error) as caught:
        train(tmp_path / "run", *overrides)
    assert words in str(caught.value)
    for part in ("given", "allowed", "fix"):
        assert getattr(caught.value, part)
    assert not (tmp_path / "run" / "checkpoints").exists()


def test_a_network_of_two_dimensions_is_refused_on_volumes(ct_root: Path, cache_dir: Path, tmp_path: Path) -> None:
    data = ["data=lits", "data.dims=3", f"data.root={ct_root}", f"paths.cache_dir={cache_dir}"]
    with pytest.raises(ConfigError, match=r"set data\.dims=2 or choose another model"):
        train_in(tmp_path, *TINY_CRACK[:-3], *data, "model=smp")


@pytest.mark.parametrize(("launcher", "devices"), [("basic", 1), ("process", 2)])
def test_a_sweep_is_only_refused_several_devices_when_its_jobs_share_a_process(
    launcher: str, devices: int, tmp_path: Path
) -> None:
    several = [f"hydra/launcher={launcher}", "trainer.devices=2", "trainer.accelerator=cpu"]
    cfg = composed("train", several, tmp_path, RunMode.MULTIRUN)
    config = {"trainer": OmegaConf.to_container(cfg.trainer) | {"devices": devices}}
    check_mode(HydraConfig.get(), config)
    if launcher == "basic":
        with pytest.raises(ConfigError, match="hydra/launcher=process"):
            fit(cfg)


def test_few_of_our_frames_stand_between_fit_and_the_network(train: Train, tmp_path: Path) -> None:
    ours: list[list[str]] = []

    def look(module: torch.nn.Module, *_: object) -> None:
        stack = [frame for frame in traceback.extract_stack() if "/src/seglab/" in frame.filename]
        if type(module).__name__ == "UNet" and module.training and not any("preflight" in f.filename for f in stack):
            ours.append([frame.name for frame in stack])

    hook = torch.nn.modules.module.register_module_forward_pre_hook(look)
    try:
        train(tmp_path, "trainer.max_epochs=1", "trainer.limit_train_batches=1", "logger=csv", "test=false")
    finally:
        hook.remove()
    assert ours[0] == ["fit", "train", "training_step", "training_losses", "forward", "logits"]


@pytest.mark.slow
def test_a_compiled_network_keeps_its_keys_and_scores(train: Train, tmp_path: Path) -> None:
    short = ["trainer.max_epochs=1", "trainer.limit_train_batches=2", "logger=csv", "model.n_poolings=2"]
    plain = train(tmp_path / "plain", *short)
    compiled = train(tmp_path / "compiled", *short, "trainer.compile=true")
    keys = [
        list(torch.load(tmp_path / name / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"])
        for name in ("plain", "compiled")
    ]
    assert keys[0] == keys[1]
    assert compiled["test/dice/crack"] == pytest.approx(plain["test/dice/crack"], abs=0.05)
