"""Cross-validation: what the folds of a sweep say together."""

import csv
import math
import re
import subprocess
import sys
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from hydra.experimental.callback import Callback
from omegaconf import DictConfig
from rich.table import Table

from seglab.errors import CheckpointError
from seglab.run.console import plain_console
from seglab.run.ensemble import write_ensemble
from seglab.run.record import read_json, read_run, write_json, write_rows
from seglab.run.sweeps.sweep_record import Job, SweepRecord

EVALUATE = Path(__file__).resolve().parents[3] / "evaluate.py"
FOLD = "data.fold="
SHOWN = ("case_dice/", "dice/mean", "iou/mean")


class FoldSummary(Callback):
    """Joins the folds when all jobs of a sweep have finished."""

    def on_multirun_end(self, config: DictConfig, **_: Any) -> None:
        """Write folds.json, cases.csv and ensemble.json into the folder of the sweep, and show the scores."""
        folder = Path(config.hydra.runtime.cwd) / str(config.hydra.sweep.dir)
        record = SweepRecord(folder)
        groups = grouped(list(record.jobs.values()))
        for label, jobs in groups.items():
            target = folder / label if len(groups) > 1 else folder
            summary = join_folds([record.place(job) for job in jobs], target)
            plain_console().print(fold_table(summary, " of ".join(filter(None, [f"{len(jobs)} folds", label]))))
            plain_console().print(f"together  {target}", soft_wrap=True)


def grouped(jobs: Collection[Job]) -> dict[str, list[Job]]:
    """Jobs that differ in their fold alone, under a name made of the overrides that others have not."""
    common = set.intersection(*(set(job.overrides) for job in jobs)) if jobs else set()
    found: dict[str, list[Job]] = {}
    for job in jobs:
        others = sorted(text for text in {*job.overrides} - common if not text.startswith(FOLD))
        found.setdefault(re.sub(r"[^\w=.,+-]", "_", ",".join(others)), []).append(job)
    return found


def join_folds(runs: Sequence[Path], target: Path) -> dict[str, Any]:
    """Score each run on the cases that it validated with, whole, and write what the folds say together.

    Args:
        runs: finished runs, one per fold.
        target: folder for folds.json, cases.csv (each case once, with its fold) and ensemble.json.

    Returns:
        What stands in folds.json: under "val" and "test", for each metric its value in each fold, mean and deviation.

    Raises:
        CheckpointError: a run that cannot be scored.
    """
    folds = [read_run(run)["config"]["data"]["fold"] for run in runs]
    rows: list[dict[str, Any]] = []
    for fold, run in zip(folds, runs, strict=True):
        output = score_validation(run)
        with (output / "cases.csv").open(newline="", encoding="utf-8") as stream:
            rows += [{"fold": fold, **row} for row in csv.DictReader(stream)]
    summary = {
        "folds": folds,
        "runs": [str(run) for run in runs],
        "val": over_folds([read_json(run / "evaluate" / "val" / "metrics.json") for run in runs]),
        "test": over_folds([read_json(run / "metrics.json") for run in runs if (run / "metrics.json").is_file()]),
    }
    write_json(target / "folds.json", summary)
    write_rows(target / "cases.csv", rows)
    write_ensemble(target, runs)
    return summary


def score_validation(run: Path) -> Path:
    """Evaluate a run on its validation cases, in a process of its own; what has been done is not done again.

    Raises:
        CheckpointError: the evaluation failed.
    """
    output = run / "evaluate" / "val"
    if not (output / "cases.csv").is_file():
        command = [sys.executable, str(EVALUATE), f"run='{run}'", "split=val", f"output='{output}'"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise CheckpointError(
                "a fold cannot be scored on its validation cases",
                given=f"{run}: {done.stderr.strip()[-500:]}",
                allowed="finished runs",
                fix=f"see what python src/evaluate.py run={run} split=val says",
            )
    return output


def over_folds(scores: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Values, mean and sample deviation of each metric over folds; folds where it is undefined do not count.

    Args:
        scores: metrics of each fold, as in its metrics.json; None stands for undefined.
    """
    names = dict.fromkeys(name for fold in scores for name in fold)
    found = {}
    for name in names:
        values = [fold.get(name) for fold in scores]
        known = [value for value in values if isinstance(value, int | float) and math.isfinite(value)]
        found[name.partition("/")[2] or name] = {
            "mean": fmean(known) if known else None,
            "std": stdev(known) if len(known) > 1 else None,
            "n": len(known),
            "values": values,
        }
    return found


def fold_table(summary: Mapping[str, Any], title: str) -> Table:
    """The main scores as mean and deviation over folds."""
    table = Table("metric", "validation, each case once", "test, by each fold", title=title)
    for name in summary["val"]:
        if name.startswith(SHOWN) and name.count("/") == 1:  # not the bounds and counts of a score
            table.add_row(name, _shown(summary["val"][name]), _shown(summary["test"].get(name)))
    return table


def _shown(entry: Mapping[str, Any] | None) -> str:
    if not entry or entry["mean"] is None:
        return ""
    return f"{entry['mean']:.4f}" + (f" ± {entry['std']:.4f}" if entry["std"] is not None else "")
