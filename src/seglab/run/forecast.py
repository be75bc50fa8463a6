"""Forecast: a few real steps before a long training, and what the whole of it will take (`check=true`)."""

import resource
import shutil
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import torch
from lightning import Callback
from rich.table import Table

from seglab.nets.base import SegmentationNet
from seglab.run.build import Config, Run, build, build_callbacks, task_class
from seglab.run.console import plain_console
from seglab.run.engine import Engine
from seglab.run.first import checked, first_network, stage_config
from seglab.run.make import make

STEPS = 6
"""Training steps of a rehearsal; the first one, which warms up, does not count."""
MIB, GIB = 2**20, 2**30
HOUR_S = 3600.0


@dataclass(frozen=True, kw_only=True)
class Forecast:
    """What a training will take, judged by a few steps of it on one process.

    Args:
        step_s: seconds of a training step.
        wait_s: seconds that a step waits for its batch.
        samples_per_s: training samples that the loader alone would give in a second.
        epoch_s: seconds of an epoch with its validation, on as many processes as are wanted.
        total_s: seconds of all epochs.
        memory_bytes: peak of the process, on a GPU that of the device.
        parameters: of the network.
        checkpoint_bytes: of a checkpoint with weights and optimizer.
        free_bytes: on the disk of the run folder.
    """

    step_s: float
    wait_s: float
    samples_per_s: float
    epoch_s: float
    total_s: float
    memory_bytes: int
    parameters: int
    checkpoint_bytes: int
    free_bytes: int


class Stopwatch(Callback):
    """Times training steps, the waiting before each of them, and validation batches."""

    def __init__(self) -> None:
        self.steps: list[float] = []
        self.waits: list[float] = []
        self.validation: list[float] = []
        self._last = time.perf_counter()

    def on_train_epoch_start(self, *_: Any) -> None:
        """The first batch is awaited from here on."""
        self._last = time.perf_counter()

    def on_train_batch_start(self, *_: Any) -> None:
        """A batch has come."""
        self.waits.append(self._lap())

    def on_train_batch_end(self, *_: Any) -> None:
        """A step is done."""
        self.steps.append(self._lap())

    def on_validation_start(self, *_: Any) -> None:
        """Validation batches are awaited from here on."""
        self._lap()

    def on_validation_batch_end(self, *_: Any, **__: Any) -> None:
        """A validation batch was read and scored."""
        self.validation.append(self._lap())

    def _lap(self) -> float:
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        before, self._last = self._last, time.perf_counter()
        return self._last - before


def check(config: Config, run_dir: Path) -> list[Forecast]:
    """Build everything, train and validate a few batches, and say what the whole training will take.

    Nothing is left behind but prepared data; of two stages both are tried, the second with a first one that has hardly
    learnt anything.

    Args:
        config: of the training.
        run_dir: its folder, which goes unless it holds a run that is to be resumed.

    Returns:
        One forecast for each stage that would be trained.

    Raises:
        SeglabError: whatever would stop the training at its start.
    """
    found, first, free_bytes = [], None, shutil.disk_usage(run_dir).free
    if task_class(config).first_stage and (config.get("first") or {}).get("model"):
        stage = stage_config(config)
        run, forecast = tried(stage, None, free_bytes)
        found, first = [forecast], checked(run.task, config).net.eval()
        plain_console().print(forecast_table(forecast, make(stage["trainer"], "trainer"), "first stage, "))
    else:
        first = first_network(config, run_dir, nothing_to_train)
    _, forecast = tried(config, first, free_bytes)
    plain_console().print(forecast_table(forecast, make(config["trainer"], "trainer")))
    if not (run_dir / "run.json").exists():
        shutil.rmtree(run_dir, ignore_errors=True)
    return [*found, forecast]


def tried(config: Config, first: SegmentationNet | None, free_bytes: int) -> tuple[Run, Forecast]:
    """Train and validate a few batches on one process, in a folder that goes again."""
    engine: Engine = make(config["trainer"], "trainer")
    short = {"max_epochs": 1, "max_steps": -1, "devices": 1, "num_nodes": 1, "check_val_every_n_epoch": 1}
    limits = {"limit_train_batches": STEPS, "limit_val_batches": 2, "log_every_n_steps": STEPS + 1}
    few = {**config, "resume": None, "callbacks": {}, "trainer": {**config["trainer"], **short, **limits}}
    with tempfile.TemporaryDirectory() as folder:
        run, watch = build(few, Path(folder), first), Stopwatch()
        build_callbacks(config, run.task, run_dir=Path(folder), validates=bool(run.data.records["val"]))  # checked only
        run.trainer.callbacks.append(watch)  # type: ignore[attr-defined]
        run.trainer.fit(run.task, datamodule=run.data)
        return run, forecast_of(run, watch, engine, free_bytes)


def nothing_to_train(run: Run, run_dir: Path, start: Path | None) -> dict[str, float]:
    """Stands for the training of a first stage, where there is none."""
    return {}


def forecast_of(run: Run, watch: Stopwatch, engine: Engine, free_bytes: int) -> Forecast:
    """From the times of a few batches to those of the whole training."""
    step_s, wait_s = median(watch.steps[1:] or watch.steps), median(watch.waits[1:] or watch.waits)
    loader, validation = run.data.train_dataloader(), run.data.val_dataloader()
    n_steps, n_val = (-(-len(each) // engine.world_size) for each in (loader, validation))
    validation_s = n_val * median(watch.validation) / engine.check_val_every_n_epoch if watch.validation else 0.0
    epoch_s = n_steps * (step_s + wait_s) + validation_s
    n_epochs = engine.max_epochs if engine.max_epochs > 0 else -(-engine.max_steps // max(n_steps, 1))
    n_values = sum(parameter.numel() for parameter in run.task.parameters())
    return Forecast(
        step_s=step_s,
        wait_s=wait_s,
        samples_per_s=samples_per_second(run),
        epoch_s=epoch_s,
        total_s=n_epochs * epoch_s,
        memory_bytes=peak_memory(),
        parameters=sum(parameter.numel() for parameter in run.task.net.parameters()),
        checkpoint_bytes=3 * 4 * n_values,  # weights and, at most, two moments of the optimizer, as float32
        free_bytes=free_bytes,
    )


def samples_per_second(run: Run) -> float:
    """How fast the training loader is while nobody waits for it, over a few batches."""
    batches = iter(run.data.train_dataloader())
    next(batches)
    start, n_samples = time.perf_counter(), 0
    for _, batch in zip(range(STEPS), batches, strict=False):
        n_samples += len(batch["image"])
    return n_samples / (time.perf_counter() - start) if n_samples else 0.0


def peak_memory() -> int:
    """Bytes: of the GPU where there is one, else of the process."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated()
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def forecast_table(found: Forecast, engine: Engine, stage: str = "") -> Table:
    """The forecast for a person."""
    n = engine.world_size
    needed = 3 * found.checkpoint_bytes  # best, last, and the one being written
    room = f"{found.free_bytes / GIB:.1f} GiB free, checkpoints take {needed / GIB:.2f} GiB"
    table = Table("check", "", title=f"{stage}judged by {STEPS} steps on one process, for {n} process(es)")
    table.add_row("training step", f"{found.step_s:.3f} s, and {found.wait_s:.3f} s of waiting for data")
    table.add_row("loader alone", f"{found.samples_per_s:.1f} samples/s")
    table.add_row("memory", f"{found.memory_bytes / MIB:.0f} MiB at the peak, {found.parameters:,} parameters")
    table.add_row("epoch", f"{found.epoch_s:.1f} s")
    table.add_row("whole training", _shown(found.total_s) + (f", ends at {engine.max_time}" if engine.max_time else ""))
    table.add_row("disk", room if needed < found.free_bytes else f"{room}: too little")
    return table


def _shown(seconds: float) -> str:
    return f"{seconds / HOUR_S:.1f} h" if seconds > HOUR_S else f"{seconds / 60:.1f} min"
