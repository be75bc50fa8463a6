"""The first stage: a network that must be trained before, a teacher or an encoding network."""

import json
import logging
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path

import torch

from seglab.errors import ConfigError
from seglab.nets.base import SegmentationNet
from seglab.run.build import PLAIN_TASK, Config, Run, build, build_task, task_class
from seglab.run.checkpoints.checkpoint import find_checkpoint, load_task
from seglab.run.checkpoints.resume import resume_point
from seglab.run.preflight import check_patch
from seglab.run.record import read_run
from seglab.task.segmentation import SegmentationTask

log = logging.getLogger("seglab")

Train = Callable[[Run, Path, Path | None], dict[str, float]]
NODES = ("model", "task", "loss")


def first_network(config: Config, run_dir: Path, train: Train) -> SegmentationNet | None:
    """The network of the first stage, opened from `first.run` or trained now; None for a task of one stage.

    What is trained here lies in <run>/first, a run folder of its own. If it has finished there it is not trained again,
    and if it was interrupted it goes on.

    Args:
        config: of the whole run.
        run_dir: folder of the whole run.
        train: trains what was built in a folder, from a checkpoint or from the start.

    Raises:
        ConfigError: the task needs a first stage and nothing says which, or one that does not fit.
        CheckpointError: `first.run` is no run.
    """
    wanted, first = task_class(config).first_stage, config.get("first") or {}
    if not wanted:
        _refuse_unused(config, first)
        return None
    if first.get("run"):
        return checked(load_task(find_checkpoint(Path(first["run"]))), config).net
    if not first.get("model"):
        raise ConfigError(
            f"{task_class(config).__name__} needs a network that was trained before",
            given="neither first.run nor first.model",
            allowed="first.run=<run folder>, or a first stage to train in the same command",
            fix=f"add {wanted}",
        )
    folder, stage = run_dir / "first", stage_config(config)
    if (folder / "run.json").is_file():
        check_unchanged(folder, stage)
    if not _has_finished(folder):
        folder.mkdir(parents=True, exist_ok=True)
        log.info(f"first stage  {folder}")
        start = resume_point(folder) if any(folder.glob("checkpoints/*.ckpt")) else None
        run = build({**stage, "resume": str(folder) if start else None}, folder)
        rehearse(config, run)
        train(run, folder, start)
        log.info("second stage")
    return load_task(find_checkpoint(folder)).net


def stage_config(config: Config) -> Config:
    """The configuration of the first stage: the run's, with its own model, task, loss and length; logs to CSV only.

    Raises:
        ConfigError: the first stage would need a first stage itself.
    """
    first = config["first"]
    own = {node: first[node] for node in NODES if first.get(node)}
    trainer = {name: first[name] for name in ("max_epochs",) if first.get(name) is not None}
    stage = {
        **config,
        "task": PLAIN_TASK,
        **own,
        "trainer": {**config["trainer"], **trainer},
        "first": {},
        "logger": {},
        "study": {},  # the second stage is what a study compares
    }
    if task_class(stage).first_stage:
        raise ConfigError(
            "a first stage cannot have a first stage of its own",
            given=f"first.task: {task_class(stage).__name__}",
            allowed="tasks of one stage",
            fix="train it in a run of its own, and name that in first.run",
        )
    return stage


def rehearse(config: Config, stage: Run) -> None:
    """Build the second stage without weights, so that what cannot work is found before the first is trained.

    Args:
        config: of the whole run.
        stage: the first stage, not yet trained.

    Raises:
        SeglabError: network, task or patch of the second stage do not fit, or not with the first stage.
    """
    with torch.device("meta"):
        task = build_task(config, stage.data.spec)
    task.use_first(deepcopy(checked(stage.task, config).net))
    check_patch(task, stage.data.n_per_batch)


def checked(first: SegmentationTask, config: Config) -> SegmentationTask:
    """The first stage, if its network was trained on what the second stage will give it: images, or label maps.

    Raises:
        ConfigError: it was trained on the other.
    """
    task = task_class(config)
    if first.labels_images == task.first_labels_images:
        return first
    kinds = {True: "images", False: "label maps"}
    raise ConfigError(
        f"the first stage was not trained on what {task.__name__} gives it",
        given=f"{type(first).__name__}, trained on {kinds[first.labels_images]}",
        allowed=f"a network trained on {kinds[task.first_labels_images]}",
        fix=f"set {task.first_stage} and no other first.task, or name another run in first.run",
    )


def check_unchanged(folder: Path, stage: Config) -> None:
    """Refuse to go on with a first stage, or to use it, that was started with another network, task or loss.

    Raises:
        ConfigError: names what differs.
    """
    known = read_run(folder)["config"]
    changed = [f"first.{node}" for node in NODES if known.get(node) != stage.get(node)]
    if changed:
        raise ConfigError(
            "the run folder holds another first stage already",
            given=f"another {', '.join(changed)} than in {folder}",
            allowed="the same command again, or a new run folder",
            fix=f"leave the changes out, leave hydra.run.dir out, or name that first stage: first.run={folder}",
        )


def _has_finished(folder: Path) -> bool:
    file = folder / "result.json"
    return file.is_file() and json.loads(file.read_text(encoding="utf-8"))["status"] == "finished"


def _refuse_unused(config: Config, first: Config) -> None:
    given = [name for name in ("run", *NODES) if first.get(name) is not None]
    if given:
        raise ConfigError(
            f"{task_class(config).__name__} has no first stage",
            given=", ".join(f"first.{name}" for name in given),
            allowed="first.* with task=distillation or task=bottleneck_supervision",
            fix="choose one of these tasks, or leave first.* out",
        )
