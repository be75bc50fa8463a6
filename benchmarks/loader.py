"""Does training wait for its data? The default 2-D training on LiTS, on a CPU, with one loader process.

python benchmarks/loader.py

Volumes of the LiTS phantom; network, batch, patch and augmentation as the configuration gives them; Lightning's own
loop, timed between the end of a step and the beginning of the next. The share of the wait is what the goal is about.
Slices of the phantom have a sixteenth of the pixels of LiTS; the time of a step and of a sample grows with both alike.

A GPU is faster than this CPU, the loader is not: beside it stand the samples that the loader gives with no process and
with one while nobody waits, and its wait beside steps of a tenth of the time, which sleep as a GPU's host does. A GPU
that trains n samples a second needs n / (samples per second with one process) processes, rounded up.

The last line is {name: {value, goal, ok}}.
"""

import argparse
import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Any

from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from runs import finish, table

from seglab.data.module import SegmentationData
from seglab.run import cli  # noqa: F401  # registers the resolvers
from seglab.run.build import Run, build
from seglab.run.catalogue import CONF
from seglab.run.forecast import Stopwatch

WORKERS = (0, 1)
UNCOUNTED = 4
"""First steps: the loader's process starts and gets ahead."""


def main() -> None:
    """Train, read in turns, print the table and the figure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=40, help="of the training, and of each way to read")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("override", nargs="*", help="of the training's configuration, such as data.patch_size=[96,96]")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="seglab-loader-") as folder:
        steps, waits, run = trained(Path(folder), given.steps + UNCOUNTED, given.override)
        step_s, speeds = median(steps), {workers: list[float]() for workers in WORKERS}
        for _ in range(given.rounds):
            for workers, found in speeds.items():
                found.append(samples_per_second(run.data, workers, given.steps))
        shares = {workers: share_of_wait(run.data, workers, given.steps, step_s / 10) for workers in WORKERS}
    spec, share = run.data.spec, sum(waits) / (sum(waits) + sum(steps))
    print(f"batches of {run.data.n_per_batch} x {spec.patch_size}, a step takes {1000 * step_s:.1f} ms")
    rows = [
        [str(workers), f"{median(found):.0f}", f"{100 * shares[workers]:.1f} %"] for workers, found in speeds.items()
    ]
    print(table(["loader processes", "samples/s", "wait beside steps of a tenth"], rows))
    finish({"wait_over_step": (share, "<= 0.02", share <= 0.02)})


def trained(folder: Path, n_steps: int, overrides: list[str]) -> tuple[list[float], list[float], Run]:
    """Seconds of each step of a training with one loader process, those waited before it, and the training."""
    fixed = [
        *("data=lits", "data.root=phantom", "data.num_workers=1", f"paths.cache_dir={folder}", "logger=[]"),
        *("trainer.accelerator=cpu", "trainer.devices=1", "trainer.threads=1", "trainer.max_epochs=1"),
        *(f"trainer.limit_train_batches={n_steps}", f"trainer.log_every_n_steps={n_steps + 1}"),
        f"data.samples_per_epoch={64 * n_steps}",
    ]
    with initialize_config_dir(str(CONF), version_base="1.3"):
        cfg = compose("train", overrides=[*fixed, *overrides])
    config: Any = OmegaConf.to_container(cfg, resolve=True)
    run, watch = build({**config, "callbacks": {}}, folder), Stopwatch()
    run.trainer.callbacks.append(watch)  # type: ignore[attr-defined]
    run.trainer.limit_val_batches = 0
    run.trainer.fit(run.task, datamodule=run.data)
    return watch.steps[UNCOUNTED:], watch.waits[UNCOUNTED:], run


def batches(data: SegmentationData, workers: int, n_batches: int) -> Iterator[dict[str, Any]]:
    """Training batches, epoch after epoch."""
    data.num_workers = workers
    loader = data.train_dataloader()
    while True:
        for batch in loader:
            yield batch
            n_batches -= 1
            if n_batches == 0:
                return


def samples_per_second(data: SegmentationData, workers: int, n_batches: int) -> float:
    """Of the loader alone, once it runs."""
    found = batches(data, workers, n_batches + UNCOUNTED)
    for _ in range(UNCOUNTED):
        next(found)
    start = time.perf_counter()
    n_samples = sum(len(batch["image"]) for batch in found)
    return n_samples / (time.perf_counter() - start)


def share_of_wait(data: SegmentationData, workers: int, n_batches: int, step_s: float) -> float:
    """Of the whole time, where a step leaves the core to others."""
    found, waited, start = batches(data, workers, n_batches + UNCOUNTED), 0.0, 0.0
    for number in range(n_batches + UNCOUNTED):
        before = time.perf_counter()
        if number == UNCOUNTED:
            waited, start = 0.0, before
        next(found)
        waited += time.perf_counter() - before
        time.sleep(step_s)
    return waited / (time.perf_counter() - start)


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    main()
