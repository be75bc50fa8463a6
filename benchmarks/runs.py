"""What the benchmarks of trained networks share: training on the command line, and scores of a run's test slices."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean, median
from typing import Any

import torch

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "src"))

from seglab.data.module import SegmentationData  # noqa: E402
from seglab.metrics.confusion import count  # noqa: E402
from seglab.metrics.report import scores  # noqa: E402
from seglab.metrics.tanimoto import tanimoto  # noqa: E402
from seglab.run.build import build_data  # noqa: E402
from seglab.run.checkpoints.checkpoint import find_checkpoint, load_task  # noqa: E402
from seglab.run.record import read_run  # noqa: E402
from seglab.task.segmentation import SegmentationTask  # noqa: E402

ONE_THREAD = ["trainer.accelerator=cpu", "trainer.devices=1", "trainer.threads=1", "data.num_workers=0"]


def train(run_dir: Path, *overrides: str) -> Path:
    """`python src/train.py` into `run_dir` on one thread, unless it has finished there as long as it is wanted.

    A run that was interrupted, or finished after fewer epochs, goes on.
    """
    if finished_epochs(run_dir) == wanted_epochs(overrides):
        return run_dir
    arguments = [*ONE_THREAD, "logger=[]", "callbacks.progress=null", *overrides]
    if (run_dir / "checkpoints" / "last.ckpt").is_file():
        arguments = [f"resume={run_dir}", *(text for text in overrides if text.startswith("trainer."))]
    environment = {**os.environ, "RUN_ID": run_dir.name, "SEGLAB_RUNS_DIR": str(run_dir.parent), "OMP_NUM_THREADS": "1"}
    subprocess.run([sys.executable, str(ROOT / "src" / "train.py"), *arguments], env=environment, check=True)
    return run_dir


def finished_epochs(run_dir: Path) -> int | None:
    """The epochs of a run that has finished, else None."""
    result = run_dir / "result.json"
    is_finished = result.is_file() and json.loads(result.read_text())["status"] == "finished"
    return read_run(run_dir)["config"]["trainer"]["max_epochs"] if is_finished else None


def wanted_epochs(overrides: Sequence[str]) -> int:
    """The epochs that overrides ask for."""
    (text,) = (text for text in overrides if text.startswith("trainer.max_epochs="))
    return int(text.partition("=")[2])


@torch.inference_mode()
def score(run_dir: Path, index: int = 1) -> dict[str, Any]:
    """Mean IoU and Tanimoto of one class over the test slices of a run, parameters, epochs and seconds per image."""
    torch.set_num_threads(1)
    task, data = opened_with_data(run_dir)
    names, has_background = task.spec.class_names, task.spec.has_background
    ious, similarities, seconds = [], [], []
    for batch in data.test_dataloader():
        image, mask = batch["image"].movedim(1, 0), batch["mask"].long()  # (C, 1, H, W) -> (1, C, H, W)
        start = time.perf_counter()
        logits = task(image)
        seconds.append(time.perf_counter() - start)
        found = scores(count(logits.argmax(1), mask, len(names)), names, has_background=has_background)
        ious.append(float(found[f"iou/{names[index]}"]))
        similarities.append(tanimoto(logits.float().softmax(dim=1), mask, index))
    return {
        "parameters": sum(parameter.numel() for parameter in task.net.parameters()),
        "epochs": read_run(run_dir)["config"]["trainer"]["max_epochs"],
        "iou": fmean(ious),
        "tanimoto": fmean(similarities),
        "seconds_per_image": median(seconds),
    }


def volume_dice(run_dir: Path, name: str) -> float:
    """Dice of one class as the test after training wrote it, the mean over whole cases."""
    return float(json.loads((run_dir / "metrics.json").read_text())[f"test/case_dice/{name}"])


def opened(run_dir: Path) -> SegmentationTask:
    """The trained task of a run."""
    return load_task(find_checkpoint(run_dir))


def opened_with_data(run_dir: Path) -> tuple[SegmentationTask, SegmentationData]:
    """The trained task of a run and the data it was trained on, with its split."""
    task, config = opened(run_dir), read_run(run_dir)["config"]
    config["data"]["split_file"] = str(run_dir / "split.json")
    return task, build_data(config).load(spec=task.spec)


def losses(run_dir: Path) -> list[float]:
    """The mean training loss of each epoch, of all parts of a run that was interrupted."""
    rows = [json.loads(line) for line in (run_dir / "metrics.jsonl").read_text().splitlines()]
    by_epoch = {int(row["epoch"]): float(row["train/loss"]) for row in rows if "train/loss" in row}
    return [by_epoch[epoch] for epoch in sorted(by_epoch)]


def draw(file: Path, curves: dict[str, list[list[float]]]) -> None:
    """Draw the training losses of networks over their epochs as SVG: the mean of the runs, a band from best to worst.

    Args:
        file: to write.
        curves: for each network one list of losses per run.
    """
    from matplotlib import pyplot, rc_context

    with rc_context({"svg.hashsalt": "seglab", "svg.fonttype": "none", "font.family": "sans-serif"}):
        figure, axes = pyplot.subplots(figsize=(7, 3.5), layout="constrained")
        for name, runs in curves.items():
            by_epoch = list(zip(*runs, strict=True))
            epochs = range(1, len(by_epoch) + 1)
            (line,) = axes.plot(epochs, [fmean(values) for values in by_epoch], label=name)
            band = [[side(values) for values in by_epoch] for side in (min, max)]
            axes.fill_between(epochs, *band, color=line.get_color(), alpha=0.2, linewidth=0)
        axes.set(xlabel="epoch", ylabel="training loss", yscale="log")
        axes.grid(which="both", alpha=0.3)
        axes.legend()
        figure.savefig(file, metadata={"Date": None})
        pyplot.close(figure)


def table(header: list[str], rows: list[list[str]]) -> str:
    """A markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def finish(figures: dict[str, tuple[float, str, bool]]) -> None:
    """Print {name: {value, goal, ok}} as the last line and end with 1 if one falls short."""
    print(json.dumps({name: {"value": v, "goal": goal, "ok": ok} for name, (v, goal, ok) in figures.items()}))
    sys.exit(0 if all(ok for _, _, ok in figures.values()) else 1)
