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
from seglab.data.module import SegmentationData
from seglab.run.engine import Engine
from seglab.run.make import make
from seglab.run.preflight import check_monitor, check_patch, check_ranks, sound_precision
from seglab.run.record import read_run
from seglab.spec import DataSpec
from seglab.task.segmentation import SegmentationTask

Config = dict[str, Any]

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


def build(config: Config, run_dir: Path) -> Run:
    """Build and check everything before any training.

    Args:
        config: resolved, plain data.
        run_dir: folder of the run.

    Raises:
        SeglabError: what does not exist or does not fit, and what to type.
    """
    seed_everything(config["seed"], workers=True, verbose=False)
    engine: Engine = make(config["trainer"], "trainer")
    known = DataSpec.from_dict(read_run(run_dir)["spec"]) if config["resume"] else None
    data = build_data(config).load(spec=known)
    check_ranks(data, engine.world_size)
    task = build_task(config, data.spec)
    engine = sound_precision(engine, check_patch(task, data.batch_size))
    if engine.compile:
        task.net.compile()
    callbacks = build_callbacks(config, task, run_dir, validates=engine.validates and bool(data.records["val"]))
    return Run(data, task, engine.trainer(callbacks=callbacks, loggers=[], run_dir=run_dir), config)


def build_data(config: Config) -> SegmentationData:
    """The data module, not yet loaded."""
    augment = make(config["augment"], "augment") if config.get("augment") else None
    data: SegmentationData = make(config["data"], "data", augment=augment, seed=config["seed"])
    return data


def build_task(config: Config, spec: DataSpec) -> SegmentationTask:
    """Network, loss, optimizer and schedule for data of this kind."""
    return SegmentationTask(
        net=make(
            config["model"],
            "model",
            in_channels=spec.in_channels,
            num_classes=spec.num_classes,
            spatial_dims=spec.spatial_dims,
        ),
        loss=make(with_background(config["loss"], spec), "loss"),
        optimizer=make(config["optimizer"], "optimizer"),
        scheduler=make(config["scheduler"], "scheduler"),
        sliding_window=make(config["inference"], "inference"),
        spec=spec,
        seed=config["seed"],
        channels_last=config["trainer"]["channels_last"],
        config=json.dumps(config),
    )


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
    return callbacks


def _place(node: Mapping[str, Any], run_dir: Path) -> dict[str, Any]:
    """The run folder, for a callback that asks for one."""
    folders = {
        "ModelCheckpoint": {"dirpath": str(run_dir / "checkpoints")},
        "PredictionImages": {"run_dir": str(run_dir)},
    }
    return folders.get(str(node.get("_target_")).rpartition(".")[2], {})
