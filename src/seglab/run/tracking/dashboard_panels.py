"""Panels of a W&B workspace, by section."""

from collections.abc import Mapping, Sequence
from typing import Any

from wandb_workspaces.reports.v2 import interface as wr

from seglab.metrics.report import METRICS

MACHINE: dict[str, list[Any]] = {
    "GPU use, %": ["system/gpu.0.gpu"],
    "GPU memory, %": ["system/gpu.0.memoryAllocated"],
    "CPU use, %": ["system/cpu"],
    "Memory of the process, MB": ["system/proc.memory.rssMB"],
}


def training() -> list[Any]:
    """Losses, their terms by step, and the learning rate."""
    return [
        _lines("Loss", ["train/loss", "val/loss"]),
        wr.LinePlot(title="Loss terms by step", x="trainer/global_step", metric_regex="train/step_.*"),
        _lines("Learning rate", ["train/lr"]),
    ]


def validation(classes: Sequence[str]) -> list[Any]:
    """Each score with a line per class, and what the kept checkpoint has."""
    lines = [_lines(f"{name} by class", _keys(f"val/{name}", classes)) for name in METRICS]
    return [*lines, wr.ScalarChart(title="Mean Dice of the kept checkpoint", metric="best/val/dice/mean")]


def test(classes: Sequence[str]) -> list[Any]:
    """Scores pooled and per case, and the confusion of the classes."""
    fields = {name: name for name in ("Actual", "Predicted", "nPredictions")}
    return [
        wr.BarPlot(title="Dice, all pixels", metrics=_keys("test/dice", classes)),
        wr.BarPlot(title="Dice, mean over cases", metrics=_keys("test/case_dice", classes)),
        wr.CustomChart(
            query={"summaryTable": {"tableKey": "test/confusion_table"}},
            chart_name="wandb/confusion_matrix/v1",
            chart_fields=fields,
            chart_strings={"title": "Pixels by true and predicted class"},
        ),
        *(
            wr.CustomChart(
                query={"summaryTable": {"tableKey": f"test/dice_by_size/{name}_table"}},
                chart_name="wandb/scatter/v0",
                chart_fields={"x": "pixels", "y": "dice"},
                chart_strings={"title": f"Dice of {name} by its size"},
            )
            for name in classes
        ),
    ]


def cases() -> list[Any]:
    """The table with a row per case."""
    return [wr.WeavePanelSummaryTable(table_name="test/cases")]


def images(pictures: Mapping[str, list[str]]) -> list[Any]:
    """Pictures of the same cases over the steps, with their layers.

    Args:
        pictures: keys by split.
    """
    return [
        wr.MediaBrowser(title=f"Predictions, {split}", media_keys=keys, mode="gallery", gallery_axis="step")
        for split, keys in pictures.items()
        if keys
    ]


def system() -> list[Any]:
    """What the machine was at."""
    return [wr.LinePlot(title=title, x="RelativeTime(Process)", y=keys) for title, keys in MACHINE.items()]


def _lines(title: str, keys: list[Any]) -> Any:
    return wr.LinePlot(title=title, x="epoch", y=keys)


def _keys(prefix: str, classes: Sequence[str]) -> list[Any]:
    return [f"{prefix}/{name}" for name in (*classes, "mean")]
