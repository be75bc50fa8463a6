"""Is a resumed training the same as one that was never stopped? At every step, on one and two processes.

    python benchmarks/resume_matrix.py [--stops 1,7,24] [--ranks 1,2] [--workers 0,2] [--folder runs/resume_matrix]

One training of 24 optimizer steps (4 epochs of 11 batches, two to a step, so that the last step of an epoch has one) is
photographed after every step, as a power cut would leave it, with loaders that run ahead. Each photograph is resumed in
a new process, whose chance is disturbed; weights, averaged weights, optimizer, schedule, early stopping, kept scores,
the best checkpoint, the test and every logged value are compared to the last bit. Networks with running statistics,
dropout, averaged weights (EMA), a schedule and early stopping are on. The last line is JSON.
"""

import argparse
import json
import multiprocessing
import os
import random
import runpy
import shutil
import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning import Callback, Trainer
from lightning.pytorch.callbacks import Checkpoint

ROOT = Path(__file__).resolve().parents[1]
N_STEPS = 24
TINY = [
    "data.root=phantom",
    "data.patch_size=[32,32]",
    "data.batch_size=2",
    "data.samples_per_epoch=44",
    "model.base_channels=2",
    "model.n_poolings=2",
    "model.dropout=0.2",
    "callbacks=[default,ema]",
    "callbacks.ema.decay=0.8",
    "callbacks.ema.start_step=3",
    "callbacks.last.every_n_steps=1",
    "callbacks.progress=null",
    "callbacks.images=null",
    "+callbacks.photographs={_target_: resume_matrix.Photographs}",
    "logger=[]",
    "trainer.accelerator=cpu",
    "trainer.precision=32-true",
    "trainer.threads=1",
    "trainer.max_epochs=4",
    "trainer.limit_train_batches=11",
    "trainer.accumulate_grad_batches=2",
    "trainer.limit_test_batches=2",
    "trainer.log_every_n_steps=1",
]
DISTURB = "+callbacks.photographs={_target_: resume_matrix.Disturbance}"
PATHS = ("dirpath", "best_model_path", "kth_best_model_path", "last_model_path", "best_k_models", "current_score")
"""Of the states of callbacks: folders, and a score that Lightning keeps for nobody and forgets at a resume."""


class Photographs(Checkpoint):
    """Copies the run folder as it is between two steps, just after the state was saved."""

    def on_train_batch_start(self, trainer: Trainer, *_: Any) -> None:
        """Between two steps of an epoch."""
        self._copy(trainer)

    def on_train_epoch_start(self, trainer: Trainer, *_: Any) -> None:
        """Between two epochs."""
        self._copy(trainer)

    def on_train_end(self, trainer: Trainer, *_: Any) -> None:
        """Before the test."""
        self._copy(trainer)

    def _copy(self, trainer: Trainer) -> None:
        run_dir = Path(trainer.default_root_dir)
        album = run_dir.with_name(f"{run_dir.name}-album")
        photograph = album / f"{trainer.global_step:02d}"
        if trainer.is_global_zero and trainer.global_step and not photograph.exists():
            shutil.copytree(run_dir, photograph)


class Disturbance(Callback):
    """Draws from every source of chance and seeds it anew, whenever a part of the training starts."""

    def on_train_start(self, *_: Any) -> None:
        """Another state than the run had."""
        seed = int.from_bytes(os.urandom(3), "big")
        random.seed(seed)
        np.random.seed(seed)
        torch.manual_seed(seed)

    on_train_epoch_start = on_validation_start = on_validation_end = on_train_batch_end = on_train_start


def train(log_file: Path, rank: int, port: int, run_dir: Path, overrides: list[str]) -> None:
    """`python src/train.py` as one process of a run; to be called in a process of its own."""
    with log_file.open("a") as log:
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
    place = {"LOCAL_RANK": str(rank), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)} if port else {}
    paths = {"RUN_ID": run_dir.name, "SEGLAB_RUNS_DIR": str(run_dir.parent), "SEGLAB_PACKAGES": "resume_matrix"}
    os.environ.update({**paths, **place, "NETRC": os.devnull, "PYTHONWARNINGS": "ignore"})
    sys.path[:0] = [str(ROOT / "src"), str(ROOT / "benchmarks")]
    sys.argv = [str(ROOT / "src" / "train.py"), *overrides]
    os.chdir(ROOT)
    multiprocessing.set_start_method("fork", force=True)  # of loader processes, as in a run from the shell
    try:
        runpy.run_path(sys.argv[0], run_name="__main__")
    finally:
        for loader in multiprocessing.active_children():  # such a process would wait for them
            loader.kill()


def run(context: Any, run_dir: Path, n_ranks: int, overrides: list[str]) -> None:
    """Train on some processes and wait for them.

    Raises:
        RuntimeError: one of them failed; its output is in <run folder>.txt.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1] if n_ranks > 1 else 0
    log_file = run_dir.with_name(f"{run_dir.name}.txt")
    arguments = [(log_file, rank, port, run_dir, [*overrides, f"trainer.devices={n_ranks}"]) for rank in range(n_ranks)]
    processes = [context.Process(target=train, args=each) for each in arguments]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    if any(process.exitcode for process in processes):
        raise RuntimeError(f"exit codes {[process.exitcode for process in processes]}, see {log_file}")


def state(run_dir: Path) -> dict[str, Any]:
    """Everything that must be the same at the end of a run, by part."""
    last, best = (torch.load(run_dir / "checkpoints" / f"{name}.ckpt", weights_only=True) for name in ("last", "best"))
    kept = {
        name: {key: value for key, value in content.items() if key not in PATHS}
        for name, content in last["callbacks"].items()
    }
    return {
        "weights": last["ema"]["trained"],
        "average": last["state_dict"],
        "optimizer": last["optimizer_states"],
        "schedule": last["lr_schedulers"],
        "callbacks": {**kept, "cursor": last["cursor"], "steps": last["global_step"]},
        "ranks": [last["seglab"]["train_loss"], last["ema"]],
        "best": [best["state_dict"], best["ema"], best["optimizer_states"], best["global_step"]],
        "log": logged(run_dir),
        "test": (run_dir / "metrics.json").read_text() + (run_dir / "cases.csv").read_text(),
    }


def logged(run_dir: Path) -> list[dict[str, float]]:
    """Every logged value but the clock, step by step."""
    from seglab.run.tracking.metrics_file import read_metrics

    return [{name: value for name, value in row.items() if name != "time"} for row in read_metrics(run_dir)]


def differences(one: Any, two: Any, path: str) -> Iterator[str]:
    """Where two states are not equal to the last bit, tensors included."""
    if isinstance(one, torch.Tensor) and isinstance(two, torch.Tensor):
        if one.shape != two.shape or not torch.equal(one.nan_to_num(7e7), two.nan_to_num(7e7)):
            yield path
    elif isinstance(one, dict) and isinstance(two, dict) and one.keys() == two.keys():
        for key in one:
            yield from differences(one[key], two[key], f"{path}.{key}")
    elif isinstance(one, list | tuple) and isinstance(two, list | tuple) and len(one) == len(two):
        for number, pair in enumerate(zip(one, two, strict=True)):
            yield from differences(*pair, f"{path}[{number}]")
    elif repr(one) != repr(two):  # NaN equals NaN
        yield path


def resume(context: Any, photograph: Path, run_dir: Path, n_ranks: int, n_workers: int, whole: dict[str, Any]) -> str:
    """Resume a photograph; what differs from the whole run, or "same"."""
    shutil.copytree(photograph, run_dir)
    run(context, run_dir, n_ranks, [f"resume={run_dir}", f"data.num_workers={n_workers}", DISTURB])
    resumed = state(run_dir)
    differing = [path for part in whole for path in differences(whole[part], resumed[part], part)]
    shutil.rmtree(run_dir)
    return f"{len(differing)} differ: {', '.join(differing[:3])}" if differing else "same"


def row(context: Any, folder: Path, n_ranks: int, n_workers: int, stops: list[int]) -> int:
    """Resume every photograph of a training with a number of loader processes; how many end the same."""
    start, n_same, whole = time.monotonic(), 0, state(folder / f"ranks{n_ranks}")
    for stop in stops:
        photograph = folder / f"ranks{n_ranks}-album" / f"{stop:02d}"
        found = resume(context, photograph, folder / f"{n_ranks}-{n_workers}-{stop}", n_ranks, n_workers, whole)
        n_same += found == "same"
        print(f"  stopped after step {stop:2d}, {n_workers} loader processes: {found}", flush=True)
    print(f"  {n_same} of {len(stops)} the same, {time.monotonic() - start:.0f} s", flush=True)
    return n_same


def main() -> None:
    """Run the matrix, print a table, and end with 1 if anything differs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--stops", default=",".join(map(str, range(1, N_STEPS + 1))), help="steps, 1,7,24")
    parser.add_argument("--ranks", default="1,2", help="processes, 1,2")
    parser.add_argument("--workers", default="0,2", help="loader processes after the resume, 0,2")
    parser.add_argument("--folder", default=str(ROOT / "runs" / "resume_matrix"), help="emptied first")
    options = parser.parse_args()
    numbers = {name: [int(n) for n in getattr(options, name).split(",")] for name in ("stops", "ranks", "workers")}
    folder = Path(options.folder).resolve()
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    os.environ |= {"OMP_NUM_THREADS": "1", "SEGLAB_CACHE_DIR": os.environ.get("SEGLAB_CACHE_DIR", str(ROOT / "cache"))}
    sys.path[:0] = [str(ROOT / "src"), str(ROOT / "benchmarks")]
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["seglab.run.fit", "resume_matrix"])
    figures, n_stops = {}, len(numbers["stops"])
    for n_ranks in numbers["ranks"]:
        start = time.monotonic()
        run(context, folder / f"ranks{n_ranks}", n_ranks, [*TINY, "data.num_workers=2"])
        print(f"{n_ranks} process(es): one training of {N_STEPS} steps, {time.monotonic() - start:.0f} s")
        for n_workers in numbers["workers"]:
            figures[f"ranks{n_ranks}_workers{n_workers}"] = row(context, folder, n_ranks, n_workers, numbers["stops"])
    goal = f"{n_stops} stops bit-identical"
    print(json.dumps({name: {"value": n, "goal": goal, "ok": n == n_stops} for name, n in figures.items()}))
    sys.exit(0 if all(n == n_stops for n in figures.values()) else 1)


if __name__ == "__main__":
    main()
