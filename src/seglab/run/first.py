"""The first stage: a network that must be trained before, a teacher or an encoding network."""

import json
import logging
from collections.abc import Callable
from pathlib import Path

from seglab.errors import ConfigError
from seglab.nets.base import SegmentationNet
from seglab.run.build import PLAIN_TASK, Config, Run, build, task_class
from seglab.run.checkpoint import find_checkpoint, load_task
from seglab.run.resume import resume_point

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
        ConfigError: the task needs a first stage and nothing says which.
        CheckpointError: `first.run` is no run.
    """
    wanted, first = task_class(config).first_stage, config.get("first") or {}
    if not wanted:
        _refuse_unused(config, first)
        return None
    if first.get("run"):
        return load_task(find_checkpoint(Path(first["run"]))).net
    if not first.get("model"):
        raise ConfigError(
            f"{task_class(config).__name__} needs a network that was trained before",
            given="neither first.run nor first.model",
            allowed="first.run=<run folder>, or a first stage to train in the same command",
            fix=f"add {wanted}",
        )
    folder = run_dir / "first"
    if not _has_finished(folder):
        folder.mkdir(parents=True, exist_ok=True)
        log.info(f"first stage  {folder}")
        start = resume_point(folder) if (folder / "checkpoints" / "last.ckpt").is_file() else None
        stage = {**stage_config(config), "resume": str(folder) if start else None}
        train(build(stage, folder), folder, start)
        log.info("second stage")
    return load_task(find_checkpoint(folder)).net


def stage_config(config: Config) -> Config:
    """The configuration of the first stage: the run's, with its own model, task, loss and length; logs to CSV only."""
    first = config["first"]
    own = {node: first[node] for node in NODES if first.get(node)}
    trainer = {name: first[name] for name in ("max_epochs",) if first.get(name)}
    return {
        **config,
        "task": PLAIN_TASK,
        **own,
        "trainer": {**config["trainer"], **trainer},
        "first": {},
        "logger": {},
    }


def _has_finished(folder: Path) -> bool:
    file = folder / "result.json"
    return file.is_file() and json.loads(file.read_text(encoding="utf-8"))["status"] == "finished"


def _refuse_unused(config: Config, first: Config) -> None:
    given = [name for name in ("run", *NODES) if first.get(name)]
    if given:
        raise ConfigError(
            f"{task_class(config).__name__} has no first stage",
            given=", ".join(f"first.{name}" for name in given),
            allowed="first.* with task=distillation or task=bottleneck_supervision",
            fix="choose one of these tasks, or leave first.* out",
        )
