"""Implicit U-Net and its U-Net twin on the CT phantom: parameters, memory, time per volume, Dice.

python benchmarks/implicit.py --runs runs/implicit --width 8 --epochs 40

The paper's abstract (https://arxiv.org/abs/2206.15217) claims 40 % fewer parameters and about 30 % less memory and time
at comparable Dice, on data it does not name there. Memory is the peak of the process above its start, in a process of
its own for each figure; both networks run on one thread and label volumes by the same windows.
"""

import argparse
import multiprocessing
import resource
import time
from pathlib import Path
from statistics import median
from typing import Any

import torch
from runs import finish, opened, opened_with_data, table, train, volume_dice

PATCH = 32
MIB = 1024


def main() -> None:
    """Train both, measure both, print the table and the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=Path, default=Path("runs/implicit"))
    parser.add_argument("--width", type=int, default=8, help="base_channels of both")
    parser.add_argument("--epochs", type=int, default=40)
    given = parser.parse_args()
    common = [
        "data=lits",
        "data.root=phantom",
        "data.dims=3",
        f"data.patch_size=[{PATCH},{2 * PATCH},{2 * PATCH}]",
        "data.batch_size=2",
        "data.samples_per_epoch=32",
        "callbacks.early_stopping=null",
        f"trainer.max_epochs={given.epochs}",
        "trainer.precision=32-true",
        f"model.base_channels={given.width}",
    ]
    ways = {
        "implicit U-Net": ["task=implicit", "model=implicit_unet"],
        "U-Net twin": ["model=unet", "model.norm=instance", "model.conv_bias=false"],
    }
    found: dict[str, dict[str, Any]] = {}
    for name, overrides in ways.items():
        run_dir = train(given.runs / name.replace(" ", "-").lower(), *common, *overrides)
        found[name] = {
            "parameters": sum(parameter.numel() for parameter in opened(run_dir).net.parameters()),
            "dice": volume_dice(run_dir, "liver"),
            "training": peak(train_steps, run_dir),
            "inference": peak(label, run_dir),
        }
    rows = [
        [
            name,
            f"{run['parameters']:,}",
            f"{run['training'][0]:.2f} s, {run['training'][1]:.0f} MiB",
            f"{run['inference'][0]:.2f} s, {run['inference'][1]:.0f} MiB",
            f"{run['dice']:.4f}",
        ]
        for name, run in found.items()
    ]
    print(table(["network", "parameters", "training step", "one volume", "Dice of the liver"], rows))
    ours, twin = found.values()
    saved = 1 - ours["parameters"] / twin["parameters"]
    finish(
        {
            "parameters_saved": (saved, "0.33 to 0.42", 0.33 <= saved <= 0.42),
            "dice_difference": (ours["dice"] - twin["dice"], ">= -0.05", ours["dice"] - twin["dice"] >= -0.05),
        }
    )


def train_steps(run_dir: Path) -> float:
    """Median seconds of a training step on a random batch of two patches."""
    task, batch = opened(run_dir).train(), made_up_batch()
    task.training_losses(batch)["loss"].backward()
    times = []
    for _ in range(5):
        start = time.perf_counter()
        task.training_losses(batch)["loss"].backward()
        times.append(time.perf_counter() - start)
    return median(times)


@torch.inference_mode()
def label(run_dir: Path) -> float:
    """Seconds to label the first test volume."""
    task, data = opened_with_data(run_dir)
    image = next(iter(data.test_dataloader()))["image"]
    start = time.perf_counter()
    task.predict_labels(image)
    return time.perf_counter() - start


def peak(measure: Any, run_dir: Path) -> tuple[float, float]:
    """What `measure` returns, and by how many MiB it raised the peak memory of a process of its own."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        seconds, kib = pool.apply(_measured, (measure, run_dir))
    return seconds, kib / MIB


def _measured(measure: Any, run_dir: Path) -> tuple[float, int]:
    torch.set_num_threads(1)
    opened(run_dir)  # imports and weights do not count
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return measure(run_dir), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before


def made_up_batch() -> dict[str, Any]:
    """Two patches of noise with a box as foreground."""
    torch.manual_seed(0)
    mask = torch.zeros(2, PATCH, 2 * PATCH, 2 * PATCH, dtype=torch.int64)
    mask[:, 8:24, 16:40, 16:40] = 1
    return {"image": torch.randn(2, 1, *mask.shape[1:]), "mask": mask, "case": ["a", "b"]}


if __name__ == "__main__":
    main()
