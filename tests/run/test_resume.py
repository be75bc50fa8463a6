"""Resume: a run that was stopped and resumed equals one that never stopped."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from run_jobs import composed
from wandb_log import offline_files, read_wandb

from seglab.errors import CheckpointError, ConfigError
from seglab.run.checkpoints.resume import check_same_data, resumed_config
from seglab.run.fit import fit
from seglab.run.tracking.metrics_file import read_metrics

Train = Callable[..., dict[str, float]]
PLAN = ["trainer.max_epochs=4", "trainer.limit_train_batches=3", "model.dropout=0.2", "callbacks.images=null"]


class Stop(Exception):
    """Stands for a power cut."""


def stop_after(epochs: int, steps_per_epoch: int) -> Callable[..., None]:
    """A hook that stops the training at the first training step after some epochs."""
    n_steps = 0

    def count(module: torch.nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
        nonlocal n_steps
        if type(module).__name__ != "UNet" or not module.training or inputs[0].is_meta:
            return
        if n_steps == epochs * steps_per_epoch:
            raise Stop
        n_steps += 1

    return count


def resume(run_dir: Path, *overrides: str) -> dict[str, float]:
    return fit(composed("train", [f"resume={run_dir}", *overrides], run_dir))


def history(run_dir: Path) -> list[dict[str, float]]:
    """Every logged value but the clock, step by step, over the parts of a run; what was repeated counts once."""
    return [{name: value for name, value in row.items() if name != "time"} for row in read_metrics(run_dir)]


def test_four_epochs_equal_two_and_two_more_after_a_stop(train: Train, tmp_path: Path) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    straight = train(whole, *PLAN)
    hook = torch.nn.modules.module.register_module_forward_pre_hook(stop_after(2, 3))
    try:
        with pytest.raises(Stop):
            train(parts, *PLAN)
    finally:
        hook.remove()
    assert read_wandb(parts).exit_code == 1
    moved = tmp_path / "moved"
    parts.rename(moved)  # and the folder may have been moved in between
    parts = moved
    resumed = resume(parts)

    assert resumed == straight
    for name in ("best", "last"):
        one, two = (torch.load(d / "checkpoints" / f"{name}.ckpt", weights_only=True) for d in (whole, parts))
        assert one["epoch"] == two["epoch"] and one["global_step"] == two["global_step"]
        for key, value in one["state_dict"].items():
            assert torch.equal(value, two["state_dict"][key]), key
        assert one["lr_schedulers"] == two["lr_schedulers"]
        assert_same(one["optimizer_states"], two["optimizer_states"])
        assert two["callbacks"]["KeptScores"] == one["callbacks"]["KeptScores"]
        scores = [[c.get("best_model_score") for c in x["callbacks"].values()] for x in (one, two)]
        assert_same(*scores)
    assert history(parts) == history(whole)
    lines = [json.loads(line) for line in (parts / "metrics.jsonl").read_text().splitlines()]
    assert [line["epoch"] for line in lines if "val/loss" in line] == [0, 1, 2, 3], "nothing is done twice"
    assert json.loads((parts / "metrics.json").read_text()) == json.loads((whole / "metrics.json").read_text())
    kept = ["best.ckpt", "last.ckpt", "manifest.json", "previous.ckpt"]
    assert sorted(file.name for file in (parts / "checkpoints").iterdir()) == kept
    logs, record = offline_files(parts), json.loads((parts / "run.json").read_text())
    assert (
        len(logs) == 2 and read_wandb(parts).run_id == record["run_id"] == "parts" and read_wandb(parts).exit_code == 0
    )
    assert len(record["resumed"]) == 1


def assert_same(one: Any, two: Any) -> None:
    """Equal to the last bit, tensors included."""
    if isinstance(one, torch.Tensor):
        assert torch.equal(one, two)
    elif isinstance(one, dict):
        assert one.keys() == two.keys()
        for key in one:
            assert_same(one[key], two[key])
    elif isinstance(one, list | tuple):
        for first, second in zip(one, two, strict=True):
            assert_same(first, second)
    else:
        assert one == two


def test_a_finished_run_can_be_trained_longer_and_remembers_it(train: Train, tmp_path: Path) -> None:
    train(tmp_path, "trainer.max_epochs=1", "trainer.limit_train_batches=2", "test=false")
    resume(tmp_path, "trainer.max_epochs=2", "logger=csv", "~callbacks.early_stopping")
    record = json.loads((tmp_path / "run.json").read_text())
    assert record["config"]["trainer"]["max_epochs"] == 2 and record["config"]["test"] is False
    assert record["config"]["resume"] is None and record["config"]["callbacks"]["early_stopping"] is None
    assert torch.load(tmp_path / "checkpoints" / "last.ckpt", weights_only=True)["epoch"] == 1
    assert len(offline_files(tmp_path)) == 1, "logger=csv was asked for"


def test_resume_keeps_what_makes_the_run(crack_run: tuple[Path, Any]) -> None:
    for override in ("optimizer.lr=0.5", "model=dcunet", "seed=3", "data.batch_size=4", "experiment=crack_photos"):
        with pytest.raises(ConfigError, match="keeps its configuration") as caught:
            resume(crack_run[0], override)
        assert override in caught.value.given and caught.value.fix


def test_every_difference_is_listed_and_what_the_run_has_already_may_be_typed_again(
    crack_run: tuple[Path, Any],
) -> None:
    run_dir = crack_run[0]

    def config(*overrides: str) -> Any:
        return resumed_config(run_dir, list(overrides), composed("train", list(overrides), run_dir))

    with pytest.raises(ConfigError) as caught:
        config("optimizer.lr=0.5", "model=dcunet", "trainer.max_epochs=9")
    assert "optimizer.lr: 0.003 -> 0.5" in caught.value.given and "max_epochs" not in caught.value.given
    assert "model._target_: seglab.nets.unet.UNet -> seglab.nets.dcunet.DCUNet" in caught.value.given
    assert caught.value.fix.startswith("leave optimizer.lr=0.5, model=dcunet out")
    same = [
        "model.base_channels=4",
        "data.batch_size=2",
        "data.patch_size=[64,64]",
        "task=segmentation",
        "loss=dice_ce",
    ]
    assert config(*same, "trainer.max_epochs=9")["trainer"]["max_epochs"] == 9


def test_a_resume_on_other_cases_is_refused(crack_run: tuple[Path, Any], caplog: pytest.LogCaptureFixture) -> None:
    record = json.loads((crack_run[0] / "run.json").read_text())
    check_same_data(crack_run[0], record)
    with pytest.raises(ConfigError, match="not what the run was started on") as caught:
        check_same_data(crack_run[0], record | {"n_cases": record["n_cases"] | {"train": 21}})
    assert caught.value.given == "n_cases.train: 20 -> 21" and not caplog.text
    check_same_data(crack_run[0], record | {"data_hash": "crack-other"})
    assert "moved or written anew" in caplog.text


def test_resume_without_a_checkpoint_is_refused(train: Train, tmp_path: Path) -> None:
    hook = torch.nn.modules.module.register_module_forward_pre_hook(stop_after(0, 1))
    try:
        with pytest.raises(Stop):
            train(tmp_path, *PLAN, "logger=csv")
    finally:
        hook.remove()
    with pytest.raises(CheckpointError, match="nothing to resume from"):
        resume(tmp_path)


def test_resume_of_what_is_no_run_is_refused_and_makes_no_folder(tmp_path: Path) -> None:
    from seglab.run.ids import run_dir

    with pytest.raises(CheckpointError, match="not a run folder"):
        run_dir("runs", str(tmp_path / "nothing"))
    assert not (tmp_path / "nothing").exists()
