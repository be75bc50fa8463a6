"""The first stage: trained in the same command or in another run, never twice, and needed by no other job."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from run_jobs import HARDWARE, TINY_CRACK, clean_environment, composed, read, same, train_in

from seglab.errors import CheckpointError, ConfigError
from seglab.run.checkpoints.checkpoint import load_task
from seglab.run.checkpoints.resume import resume_point
from seglab.run.evaluate import evaluate
from seglab.run.fit import fit
from seglab.run.ids import run_dir
from seglab.run.predict import predict
from seglab.task.distillation import DistillationTask

Train = Callable[..., dict[str, float]]
Weights = dict[str, torch.Tensor]

SHORT = ["trainer.limit_train_batches=1", "logger=csv", "callbacks.images=null"]
QUICK = [*SHORT, "trainer.max_epochs=1", "trainer.limit_val_batches=1", "test=false"]
TEACHER = ["model@first.model=unet", "first.model.base_channels=2"]
DISTILLATION = ["task=distillation", *TEACHER]
SHALLOW = [*SHORT, "model.n_poolings=1", "trainer.max_epochs=1"]
PLAN = [*SHALLOW, *DISTILLATION, "first.model.n_poolings=1", "first.max_epochs=2"]


@pytest.fixture(scope="module")
def two_stages(
    tmp_path_factory: pytest.TempPathFactory, crack_root: Path, cache_dir: Path
) -> tuple[Path, dict[str, float]]:
    """A finished distillation, and what fit returned; leave the folder as it is."""
    run_dir = tmp_path_factory.mktemp("runs") / "distilled"
    with clean_environment():
        return run_dir, train_in(run_dir, *TINY_CRACK, *PLAN, f"data.root={crack_root}", f"paths.cache_dir={cache_dir}")


def checkpoint(run_dir: Path, which: str = "best") -> dict[str, Any]:
    return torch.load(run_dir / "checkpoints" / f"{which}.ckpt", weights_only=True)


def weights(run_dir: Path) -> Weights:
    return checkpoint(run_dir)["state_dict"]


def is_same(one: Weights, two: Weights) -> bool:
    return one.keys() == two.keys() and all(torch.equal(one[name], two[name]) for name in one)


def files(folder: Path) -> dict[str, int]:
    """Time of the last change of every file."""
    return {str(file.relative_to(folder)): file.stat().st_mtime_ns for file in folder.rglob("*") if file.is_file()}


def test_one_command_trains_both_stages_each_in_a_run_folder_of_its_own(two_stages: Any) -> None:
    run_dir, scores = two_stages
    first, second = read(run_dir / "first" / "run.json"), read(run_dir / "run.json")
    assert [record["config"]["model"]["base_channels"] for record in (first, second)] == [2, 4]
    assert [record["config"]["trainer"]["max_epochs"] for record in (first, second)] == [2, 1]
    assert first["config"]["task"] == {"_target_": "seglab.task.segmentation.SegmentationTask"}
    assert first["config"]["first"] == {} and first["config"]["logger"] == {}
    assert second["config"]["first"]["model"]["base_channels"] == 2
    assert first["data_hash"] == second["data_hash"] and first["run_id"] == "first"
    for folder in (run_dir, run_dir / "first"):
        assert read(folder / "result.json")["status"] == "finished" and (folder / "cases.csv").is_file()
        assert {"best.ckpt", "last.ckpt"} <= {file.name for file in (folder / "checkpoints").iterdir()}
    assert read(run_dir / "split.json") == read(run_dir / "first" / "split.json")
    assert same(scores, {name: value for name, value in read(run_dir / "result.json").items() if name in scores})


def test_the_teacher_is_no_part_of_the_run_s_checkpoint(two_stages: Any) -> None:
    run_dir, _ = two_stages
    assert len(weights(run_dir)) == len(weights(run_dir / "first"))
    assert weights(run_dir)["net.encoder.0.first.conv.weight"].shape[0] == 4
    assert weights(run_dir / "first")["net.encoder.0.first.conv.weight"].shape[0] == 2


def test_another_run_is_taken_as_first_stage_and_nothing_else_is_trained(
    two_stages: Any, train: Train, tmp_path: Path
) -> None:
    run_dir, scores = two_stages
    before = files(run_dir)
    again = train(tmp_path / "run", *SHALLOW, "task=distillation", f"first.run={run_dir}/first")
    assert not (tmp_path / "run" / "first").exists() and files(run_dir) == before
    assert is_same(weights(tmp_path / "run"), weights(run_dir)) and same(again, scores)


def test_a_finished_first_stage_is_not_trained_again(two_stages: Any, train: Train, tmp_path: Path) -> None:
    run_dir, scores = two_stages
    shutil.copytree(run_dir / "first", tmp_path / "first")  # as if the second stage had died at once
    before = files(tmp_path / "first")
    assert same(train(tmp_path, *PLAN), scores)
    assert files(tmp_path / "first") == before and is_same(weights(tmp_path), weights(run_dir))


def test_a_resumed_second_stage_keeps_the_first(two_stages: Any, tmp_path: Path) -> None:
    shutil.copytree(two_stages[0], tmp_path / "run")
    before = files(tmp_path / "run" / "first")
    overrides = [f"resume={tmp_path / 'run'}", "trainer.max_epochs=2", "test=false"]
    fit(composed("train", overrides, tmp_path / "run"))
    assert checkpoint(tmp_path / "run", "last")["epoch"] == 1 and files(tmp_path / "run" / "first") == before


class Stop(Exception):
    """Stands for a power cut."""


@pytest.mark.slow
def test_an_interrupted_first_stage_goes_on_where_it_was(two_stages: Any, train: Train, tmp_path: Path) -> None:
    n_steps = 0

    def stop(module: torch.nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
        nonlocal n_steps
        if type(module).__name__ == "UNet" and module.training and not inputs[0].is_meta:
            n_steps += 1
            if n_steps == 2:  # the first step of the second epoch
                raise Stop

    hook = torch.nn.modules.module.register_module_forward_pre_hook(stop)
    try:
        with pytest.raises(Stop):
            train(tmp_path, *PLAN, "test=false")
    finally:
        hook.remove()
    assert read(tmp_path / "first" / "result.json")["status"] == "failed" and not (tmp_path / "run.json").exists()
    assert checkpoint(tmp_path / "first", "last")["epoch"] == 0
    train(tmp_path, *PLAN, "test=false")
    assert len(read(tmp_path / "first" / "run.json")["resumed"]) == 1
    assert checkpoint(tmp_path / "first", "last")["epoch"] == 1
    assert is_same(weights(tmp_path / "first"), weights(two_stages[0] / "first"))
    assert is_same(weights(tmp_path), weights(two_stages[0]))


@pytest.mark.slow
def test_the_distilled_network_needs_its_teacher_no_more(two_stages: Any, crack_root: Path, tmp_path: Path) -> None:
    run_dir = tmp_path / "run"
    shutil.copytree(two_stages[0], run_dir)
    shutil.rmtree(run_dir / "first")
    assert isinstance(load_task(run_dir / "checkpoints" / "best.ckpt"), DistillationTask)
    scores = evaluate(composed("evaluate", [f"run={run_dir}", *HARDWARE, "data.num_workers=0"]))
    tested = {name: value for name, value in two_stages[1].items() if name.startswith("test/")}
    assert same({name: scores[name] for name in tested}, tested) and tested
    photo = crack_root / "images" / "photo_00_0.png"
    predict(composed("predict", [f"run={run_dir}", f"input={photo}", f"output={tmp_path / 'out'}", *HARDWARE[::2]]))
    assert [file.name for file in (tmp_path / "out").glob("*.png")] == ["photo_00_0.png"]


@pytest.mark.slow
def test_an_encoding_run_is_evaluated_on_masks_and_labels_no_images(train: Train, tmp_path: Path) -> None:
    encoding = ["task=label_encoding", "model=encoding_unet", "model.base_channels=2"]
    train(tmp_path / "run", *QUICK, *encoding)
    scores = evaluate(composed("evaluate", [f"run={tmp_path / 'run'}", "split=val", *HARDWARE, "data.num_workers=0"]))
    assert 0 <= scores["test/dice/background"] <= 1
    with pytest.raises(ConfigError, match="cannot label images") as caught:
        predict(composed("predict", [f"run={tmp_path / 'run'}", f"input={__file__}", f"output={tmp_path / 'out'}"]))
    assert caught.value.fix == "name the run that it was the first stage of"


BS = ["model=bsunet", "model.base_channels=2", "task=bottleneck_supervision"]
ENCODING = ["model@first.model=encoding_unet", "first.model.base_channels=2", "task@first.task=label_encoding"]
REFUSED = {
    "no teacher": (["task=distillation"], "add model@first.model=unet first.model.base_channels=64"),
    "no encoding network": (BS, "add model@first.model=encoding_unet task@first.task=label_encoding"),
    "a model for one stage": (TEACHER, "leave first.* out"),
    "a run for one stage": (["first.run=somewhere"], "leave first.* out"),
    "a loss for one stage": (["loss@first.loss=dice"], "leave first.* out"),
    "no epochs": ([*DISTILLATION, "first.max_epochs=0"], "trainer.max_epochs"),
    "a third stage": ([*DISTILLATION, "task@first.task=distillation"], "name that in first.run"),
    "a teacher of masks": ([*DISTILLATION, "task@first.task=label_encoding"], "and no other first.task"),
    "ill weights": ([*DISTILLATION, "task.hard_weight=0", "task.soft_weight=0"], "task.soft_weight"),
    "a patch for the first stage only": (
        [*DISTILLATION, "first.model.norm=null", "data.patch_size=[16,16]", "data.batch_size=1"],
        "data.batch_size=2",
    ),
    "another width": ([*BS, *ENCODING, "first.model.base_channels=4"], "model.base_channels"),
    "an encoding network of images": ([*BS, *ENCODING[:2]], "task@first.task=label_encoding"),
    "a network without bottleneck": (["task=bottleneck_supervision", *ENCODING], "set model=bsunet"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_work_is_refused_before_anything_is_trained(train: Train, tmp_path: Path, case: str) -> None:
    overrides, words = REFUSED[case]
    with pytest.raises(ConfigError) as caught:
        train(tmp_path, *QUICK, *overrides)
    assert words in caught.value.fix
    assert all(getattr(caught.value, part) for part in ("what", "given", "allowed"))
    assert not list(tmp_path.rglob("*.ckpt")) and not list(tmp_path.rglob("run.json"))


def test_a_first_run_without_a_network_or_of_other_data_is_refused(
    scene_root: Path, two_stages: Any, train: Train, tmp_path: Path, cache_dir: Path
) -> None:
    distillation = ["task=distillation", f"first.run={tmp_path / 'nowhere'}"]
    with pytest.raises(CheckpointError, match="has no checkpoint"):
        train(tmp_path / "run", *QUICK, *distillation)
    scenes = ["data=satellite", f"data.root={scene_root}", f"first.run={two_stages[0]}"]
    with pytest.raises(ConfigError, match="the teacher was trained for other data"):
        train(tmp_path / "run", *QUICK, *distillation, *scenes)
    assert not (tmp_path / "run" / "run.json").exists()


def test_another_first_stage_in_the_same_folder_is_refused(two_stages: Any, train: Train, tmp_path: Path) -> None:
    shutil.copytree(two_stages[0] / "first", tmp_path / "first")
    with pytest.raises(ConfigError, match="holds another first stage") as caught:
        train(tmp_path, *PLAN, "first.model.base_channels=3", "loss@first.loss=dice")
    assert "another first.model, first.loss" in caught.value.given
    assert f"first.run={tmp_path / 'first'}" in caught.value.fix


def test_a_run_that_cannot_be_resumed_says_how_to_keep_its_first_stage(two_stages: Any, tmp_path: Path) -> None:
    shutil.copytree(two_stages[0], tmp_path / "run")
    for file in (tmp_path / "run" / "checkpoints").iterdir():
        file.unlink()
    with pytest.raises(CheckpointError, match=f"first.run={tmp_path / 'run' / 'first'} to keep its first stage"):
        resume_point(tmp_path / "run")
    (tmp_path / "run" / "run.json").unlink()
    with pytest.raises(CheckpointError, match=f"again, with hydra.run.dir={tmp_path / 'run'}"):
        run_dir("runs", str(tmp_path / "run"))
