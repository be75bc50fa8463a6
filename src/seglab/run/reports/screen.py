"""What a job shows at its end: scores by class, folder and picture."""

import math
from collections.abc import Mapping
from pathlib import Path

from rich.table import Table

from seglab.callbacks.images import PredictionImages
from seglab.run.build import Run
from seglab.run.console import plain_console
from seglab.spec import DataSpec

COLUMNS = ("dice", "iou", "precision", "recall", "case_dice", "case_iou")


def score_table(scores: Mapping[str, float], spec: DataSpec, title: str) -> Table:
    """Scores of the test, one row per class and one for the mean."""
    table = Table(title=title, title_justify="left")
    table.add_column("class")
    for column in COLUMNS:
        table.add_column(column.replace("case_", "per-case "), justify="right")
    for name in (*spec.class_names, "mean"):
        if name == "mean":
            table.add_section()
        table.add_row(name, *(_shown(scores.get(f"test/{column}/{name}", math.nan)) for column in COLUMNS))
    return table


def show_run(run: Run, run_dir: Path, scores: Mapping[str, float]) -> None:
    """Print the table, the run folder and the picture of a finished training."""
    console = plain_console()
    if any(name.startswith("test/") for name in scores):
        n = len(run.task.case_rows)
        console.print(score_table(scores, run.data.spec, f"Test on {n} cases: pooled over all pixels, and per case"))
    console.print(f"run folder  {run_dir}", soft_wrap=True)
    for callback in run.trainer.callbacks:  # type: ignore[attr-defined]
        if isinstance(callback, PredictionImages) and callback.test_picture.is_file():
            console.print(f"picture     {callback.test_picture}", soft_wrap=True)


def _shown(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.4f}"
