"""What W&B shows of a run: axes and summaries of the metrics, gradients, and the test as table and plots."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import wandb
from lightning.pytorch.loggers import WandbLogger
from torch import nn

from seglab.metrics.report import METRICS, foreground_names, mean
from seglab.run.tracking.wandb_files import send_code, send_files
from seglab.run.tracking.wandb_settings import WandbSettings
from seglab.spec import DataSpec

EPOCH, STEP = "epoch", "trainer/global_step"
HIGHER, LOWER = "max,last", "min,last"
AXES: dict[str, tuple[str, str | None]] = {
    "train/step_*": (STEP, LOWER),
    "train/loss": (EPOCH, LOWER),
    "train/lr": (EPOCH, None),
    "val/loss": (EPOCH, LOWER),
    **{f"val/{name}/*": (EPOCH, HIGHER) for name in METRICS},
    **{f"val/{name}/*": (EPOCH, LOWER) for name in ("hd95", "asd")},
    "val/accuracy": (EPOCH, HIGHER),
    "val/n_classes": (EPOCH, None),
    "best/*": (EPOCH, None),
    "test/*": (EPOCH, None),
    "val_images/*": (STEP, None),
    "test_images/*": (STEP, None),
    "gradients/*": (STEP, None),
    "parameters/*": (STEP, None),
}
"""Axis and summary of each metric. Without a summary it is the last value, which a sweep can be led by."""

CONFUSION = "wandb/confusion_matrix/v1"

Row = Mapping[str, Any]


def define_axes(run: Any) -> None:
    """Tell W&B the axis and the summary of each metric."""
    for axis in (EPOCH, STEP):
        run.define_metric(axis)
    for pattern, (axis, summary) in AXES.items():
        run.define_metric(pattern, step_metric=axis, summary=summary)


class Board(WandbLogger):
    """A W&B run: Lightning logs metrics and pictures, the rest comes by `log_start`, `log_test` and `log_files`.

    Args:
        run: started.
        settings: what is sent.
    """

    title = "W&B"

    def __init__(self, run: Any, settings: WandbSettings) -> None:
        super().__init__(experiment=run)
        self.settings = settings

    def log_start(self, net: nn.Module) -> None:
        """Send the code and watch the gradients, as configured.

        Args:
            net: about to be trained.
        """
        if self.settings.code:
            send_code(self.experiment)
        if self.settings.watch:
            self.experiment.watch(net, log=self.settings.watch, log_freq=self.settings.watch_every)

    def log_test(self, rows: Sequence[Row], counts: Sequence[Sequence[int]], spec: DataSpec, step: int) -> None:
        """Show the cases, worst first, and how the classes were confused.

        Args:
            rows: of cases.csv.
            counts: confusion matrix over all pixels, rows are the truth.
            spec: of the data.
            step: optimizer steps of the training.
        """
        names = foreground_names(spec.class_names, has_background=spec.has_background)
        columns, data = case_table(rows, names)
        shown: dict[str, Any] = {"test/cases": wandb.Table(columns=columns, data=data)}
        shown |= {"test/confusion": confusion_plot(counts, spec.class_names)}
        for name in names:
            shown |= class_plots(rows, name)
        self.log_metrics(shown, step)

    def log_files(self, folder: Path, run_dir: Path) -> None:
        """Send what a run or its evaluation has left behind, as configured.

        Args:
            folder: with the files.
            run_dir: folder of the run that they are of, often the same.
        """
        send_files(self.experiment, folder, self.settings, run_dir)


def case_table(rows: Sequence[Row], names: Sequence[str]) -> tuple[list[str | int], list[list[Any]]]:
    """Columns and rows of the table of cases: case, mean Dice, then the columns of cases.csv; the worst case first.

    Args:
        rows: of cases.csv.
        names: of the foreground classes.

    Returns:
        Names of the columns, and the rows; NaN is None, and a case without any foreground comes last.
    """
    others = [name for name in (rows[0] if rows else {}) if name != "case"]
    scored = [(mean([v for name in names if not math.isnan(v := row[f"dice/{name}"])]), row) for row in rows]
    scored.sort(key=lambda pair: (math.isnan(pair[0]), pair[0], str(pair[1]["case"])))
    data = [[row["case"], known(dice), *(known(row[name]) for name in others)] for dice, row in scored]
    return ["case", "dice/mean", *others], data


def confusion_plot(counts: Sequence[Sequence[int]], names: Sequence[str]) -> Any:
    """W&B's own plot of a confusion matrix, in pixels.

    Args:
        counts: rows are the truth.
        names: of all classes.
    """
    data = [[names[true], names[pred], n] for true, row in enumerate(counts) for pred, n in enumerate(row)]
    table = wandb.Table(columns=["Actual", "Predicted", "nPredictions"], data=data)
    fields = {str(name): name for name in table.columns}
    return wandb.plot_table(CONFUSION, table, fields, {"title": "Pixels of the test by true and predicted class"})


def class_plots(rows: Sequence[Row], name: str) -> dict[str, Any]:
    """How the Dice of a class is spread over the cases, and whether it depends on the size.

    Args:
        rows: of cases.csv.
        name: of the class.
    """
    points = [[row["case"], row[f"n_true/{name}"], row[f"dice/{name}"]] for row in rows]
    points = [point for point in points if not math.isnan(point[2])]
    if not points:
        return {}
    table = wandb.Table(columns=["case", "pixels", "dice"], data=points)
    spread = np.histogram([dice for *_, dice in points], bins=20, range=(0.0, 1.0))
    return {
        f"test/case_dice_histogram/{name}": wandb.Histogram(np_histogram=spread),
        f"test/dice_by_size/{name}": wandb.plot.scatter(table, "pixels", "dice", title=f"Dice of {name} by its size"),
    }


def known(value: Any) -> Any:
    """A value for a cell; None for NaN."""
    return None if isinstance(value, float) and math.isnan(value) else value
