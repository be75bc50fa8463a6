"""From a plain configuration to the objects of a run; everything that can be wrong is found here, on the CPU."""

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lightning import Callback, Trainer, seed_everything
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint

from seglab.callbacks.best import KeptScores
from seglab.callbacks.cursor import Cursor
from seglab.callbacks.handshake import Handshake
from seglab.callbacks.stop import StopOnSignal
from seglab.data.module import SegmentationData
from seglab.errors import ConfigError
from seglab.extras import require
from seglab.nets.base import SegmentationNet
from seglab.run.engine import Engine
from seglab.run.make import locate, make
from seglab.run.planning import fit_memory, memory_at_hand, with_depth
from seglab.run.preflight import check_monitor, check_patch, check_ranks, check_supported, share_norms, sound_precision
from seglab.run.record import code_hash, config_hash, read_run
from seglab.run.secrets import scrub_config
from seglab.run.watch import RankWatch
from seglab.spec import DataSpec
from seglab.task.segmentation import SegmentationTask, TaskParts

Config = dict[str, Any]

PLAIN_TASK = {"_target_": "seglab.task.segmentation.SegmentationTask"}

log = logging.getLogger("seglab")


@dataclass(frozen=True)
class Run:
    """The objects of a run.

    Args:
        data: loaded and split.
        task: network, loss and metrics.
        trainer: Lightning's.
        config: plain configuration that all of it was built from.
    """

    data: SegmentationData
    task: SegmentationTask
    trainer: Trainer
    config: Config


def build(config: Config, run_dir: Path, first: SegmentationNet | None = None) -> Run:
    """Build and check everything before any training.

    Args:
        config: resolved, plain data.
        run_dir: folder of the run.
        first: network of the first stage, for a task that needs one.

    Raises:
        SeglabError: what does not exist or does not fit, and what to type.
    """
    seed_everything(config["seed"], workers=True, verbose=False)
    engine: Engine = make(config["trainer"], "trainer")
    known = DataSpec.from_dict(read_run(run_dir)["spec"]) if config["resume"] else None
    data = build_data(config).load(spec=known)
    check_ranks(data, engine.world_size)
    task, config = planned_task(config, data, engine)
    engine = check_supported(engine, task.net)
    if first is not None:
        task.use_first(first)
    data.map_names = task.loss.map_names
    patch = check_patch(task, data.n_per_batch)
    engine = sound_precision(engine, has_thin_level=patch.has_thin_level)
    share_norms(engine, task.net)
    if engine.compile:
        task.net.compile()
    cursor = Cursor()
    data.next_batch = cursor.next_batch
    validates = engine.validates and bool(data.records["val"])
    callbacks = [
        *watchers(engine, run_dir, {"configuration": config_hash(shared(config)), **data_facts(data)}),
        cursor,
        *build_callbacks(config, task, run_dir, validates=validates),
        StopOnSignal(str(run_dir), timeout_s=engine.timeout_s),
    ]
    trainer = engine.trainer(callbacks=callbacks, loggers=[], run_dir=run_dir, leaves_unused=patch.leaves_unused)
    return Run(data, task, trainer, config)


def planned_task(config: Config, data: SegmentationData, engine: Engine) -> tuple[SegmentationTask, Config]:
    """The task, and the configuration with the sizes that it left open; a resumed run has them already."""
    model, config = config["model"], with_depth(config, data.spec.patch_size)
    task, patch = build_task(config, data.spec), data.spec.patch_size
    if config["resume"]:
        return task, config
    config = fit_memory(config, data, task.net, memory_at_hand(engine))
    if data.spec.patch_size == patch:
        task.config = json.dumps(scrub_config(config))
        return task, config
    config = with_depth({**config, "model": model}, data.spec.patch_size)
    seed_everything(config["seed"], workers=True, verbose=False)  # the weights are those of a patch set by hand
    return build_task(config, data.spec), config


def watchers(engine: Engine, run_dir: Path, facts: Mapping[str, str]) -> list[Callback]:
    """What several processes need: they agree on what they do before the first step, and end together.

    Args:
        engine: of the job.
        run_dir: folder that all of them share.
        facts: that must be equal on all of them, beside the code.
    """
    if engine.world_size == 1:
        return []
    return [Handshake({"code": code_hash(), **facts}), RankWatch(run_dir)]


def shared(config: Config) -> Config:
    """The part of a configuration that all processes of a run have in common; folders may differ by machine."""
    data = {key: value for key, value in config["data"].items() if key not in ("root", "cache_dir", "num_workers")}
    return {**config, "data": data, "paths": None}


def data_facts(data: SegmentationData) -> dict[str, str]:
    """Hashes of the prepared data and of the split."""
    return {"data": data.store.folder.name, "split": config_hash(data.splits)}


def build_data(config: Config) -> SegmentationData:
    """The data module, not yet loaded."""
    augment = make(config["augment"], "augment") if config.get("augment") else None
    data: SegmentationData = make(config["data"], "data", augment=augment, seed=config["seed"])
    return data


def build_task(config: Config, spec: DataSpec) -> SegmentationTask:
    """Network, loss, optimizer and schedule for data of this kind."""
    node = config.get("task") or PLAIN_TASK
    parts = TaskParts(
        net=build_net(config, spec),
        loss=make(with_background(config["loss"], spec), "loss"),
        optimizer=make(config["optimizer"], "optimizer"),
        scheduler=make(config["scheduler"], "scheduler"),
        sliding_window=make(config["inference"], "inference"),
        spec=spec,
        seed=config["seed"],
        channels_last=config["trainer"]["channels_last"],
        config=json.dumps(scrub_config(config)),
    )
    task: SegmentationTask = make(node, "task", parts=parts)
    return task


def build_net(config: Config, spec: DataSpec) -> SegmentationNet:
    """The configured network, with the channels and classes that the task gives it for this data.

    Raises:
        ConfigError: the model is no SegmentationNet.
    """
    net = make(config["model"], "model", **task_class(config).net_arguments(spec))
    if not isinstance(net, SegmentationNet):
        raise ConfigError(
            "model is no network that can be trained here",
            given=f"model._target_={config['model'].get('_target_')}",
            allowed="a subclass of seglab.nets.base.SegmentationNet",
            fix="derive it from SegmentationNet, as docs/add_a_network.md shows, or choose another model=...",
        )
    return net


def task_class(config: Config) -> type[SegmentationTask]:
    """The class of the configured task; runs from before there were tasks are plain segmentation.

    Raises:
        ConfigError: the task is no task.
    """
    found = locate(str((config.get("task") or PLAIN_TASK).get("_target_")), "task")
    if not (isinstance(found, type) and issubclass(found, SegmentationTask)):
        raise ConfigError(
            "task is no way of training",
            given=f"task._target_={config['task'].get('_target_')}",
            allowed="SegmentationTask or a subclass, as in conf/task",
            fix="set task=segmentation",
        )
    return found


def with_background(loss: Config, spec: DataSpec) -> Config:
    """A loss whose terms count class 0 where the data has no background and the term leaves it open (null)."""
    choice = {"include_background": not spec.has_background}
    terms = {
        name: {**term, **choice} if term.get("include_background", 0) is None else term
        for name, term in loss["terms"].items()
    }
    return {**loss, "terms": terms}


def build_callbacks(config: Config, task: SegmentationTask, run_dir: Path, *, validates: bool) -> list[Callback]:
    """Callbacks of the configuration; without validation nothing can be monitored, and the last state is kept."""
    callbacks: list[Callback] = [KeptScores()]
    for name, node in (config["callbacks"] or {}).items():
        if node is None:  # switched off: callbacks.<name>=null
            continue
        place = _place(node, run_dir)
        callback = make(node, f"callbacks.{name}", **place)
        if isinstance(callback, EarlyStopping | ModelCheckpoint) and callback.monitor:
            check_monitor(callback.monitor, task.metric_names(), name)
            if not validates:
                log.info(f"no validation: callbacks.{name} cannot watch {callback.monitor}; last state kept")
                if isinstance(callback, EarlyStopping):
                    continue
                unwatched = {**node, "monitor": None, "save_on_train_epoch_end": True}
                callback = make(unwatched, f"callbacks.{name}", **place)
        callbacks.append(callback)
    return [*callbacks, *_of_a_trial(config, run_dir)]


def _of_a_trial(config: Config, run_dir: Path) -> list[Callback]:
    """What a run that is a trial of a study has beside its own callbacks."""
    study = config.get("study") or {}
    if study.get("trial") is None:
        return []
    require("optuna", "sweep", "a trial of a study")
    from seglab.run.sweeps.trial import pruning

    return [pruning(study, run_dir)]


def _place(node: Mapping[str, Any], run_dir: Path) -> dict[str, Any]:
    """The run folder, for a callback that asks for one."""
    folders = {
        "ModelCheckpoint": {"dirpath": str(run_dir / "checkpoints")},
        "PredictionImages": {"run_dir": str(run_dir)},
        "LastCheckpoint": {"run_dir": str(run_dir)},
        "FiniteGuard": {"run_dir": str(run_dir)},
    }
    return folders.get(str(node.get("_target_")).rpartition(".")[2], {})
