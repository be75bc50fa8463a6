"""Scored cases: what is known of them, and their scores as tables."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.table import Table

from seglab.callbacks.case_measures import mean_dice
from seglab.metrics.calibration import Calibration
from seglab.metrics.cases import summarise
from seglab.metrics.families import DEFAULTS, UNIT, CaseMetrics
from seglab.metrics.measures import MEASURES, OF_ALL_CLASSES
from seglab.metrics.report import foreground_names
from seglab.metrics.subgroups import subgroups
from seglab.run.console import plain_console
from seglab.run.reports.screen import score_table
from seglab.spec import DataSpec

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Evaluation:
    """Scored cases and what is known of them.

    Args:
        title: what was scored on what.
        facts: to be shown at the top, by name.
        spec: of the data.
        rows: of the cases, in their order.
        pooled: scores over all pixels, as <score>/<class>.
        counts: confusion matrix over all pixels, rows are the truth.
        slices: of the cases with a picture, the slice that it shows.
        calibration: of the probabilities, where there are any.
        columns: that cases are shared out by.
    """

    title: str
    facts: Mapping[str, str]
    spec: DataSpec
    rows: Sequence[Row]
    pooled: Mapping[str, float]
    counts: Sequence[Sequence[int]]
    slices: Mapping[str, int] = field(default_factory=dict)
    calibration: Calibration | None = None
    columns: Sequence[str] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """The classes that are measured."""
        return foreground_names(self.spec.class_names, has_background=self.spec.has_background)

    def summary(self, rows: Sequence[Row] | None = None) -> dict[str, float]:
        """Means over cases of every metric; of some of the cases, where given."""
        chosen = self.rows if rows is None else rows
        background = self.spec.has_background
        return summarise(chosen, self.spec.class_names, has_background=background, metrics=list(MEASURES))

    def by_subgroup(self) -> dict[str, dict[str, dict[str, float]]]:
        """Means over the cases of each subgroup, by column and subgroup."""
        return {
            column: {
                name: {"n_cases": len(members), **self.summary(members)}
                for name, members in subgroups(self.rows, column).items()
            }
            for column in self.columns
        }

    @property
    def worst_first(self) -> list[Row]:
        """The cases by mean Dice; those without any foreground come last."""
        return sorted(self.rows, key=lambda row: (math.isnan(mean_dice(row)), mean_dice(row), str(row["case"])))


def whole_rows(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Rows that all have the columns of all, in the order of the metrics; NaN where a case has no value."""
    columns = list(dict.fromkeys(key for row in rows for key in row))
    known = [key for key in columns if key.partition("/")[0] not in MEASURES]
    ordered = known + [key for metric in MEASURES for key in columns if key.partition("/")[0] == metric]
    return [{key: row.get(key, math.nan) for key in ordered} for row in rows]


def summary_table(found: Evaluation, summary: Mapping[str, float]) -> Table:
    """Every metric of every class over cases, with its interval and the numbers behind it."""
    table = Table(title="per case", title_justify="left")
    for column in ("metric", "class", "mean", "95 %", "n", "missed"):
        table.add_column(column, justify="left" if column in ("metric", "class") else "right", no_wrap=True)
    for line in summary_lines(found, summary):
        unit = f" ({line['unit']})" if line["unit"] else ""
        values = (line[key] for key in ("class", "mean", "ci"))
        table.add_row(line["metric"] + unit, *values, *map(str, line["n"][:2]))
    return table


def summary_lines(found: Evaluation, summary: Mapping[str, float]) -> list[dict[str, Any]]:
    """The lines of the table of metrics as text."""
    lines = []
    for metric, measure in MEASURES.items():
        for name in ("",) if metric in OF_ALL_CLASSES else found.names:
            key = f"case_{metric}/{name}" if name else f"case_{metric}"
            if key in summary:
                ends = [summary[f"{key}/ci_{end}"] for end in ("low", "high")]
                lines.append(
                    {
                        "metric": metric,
                        "text": measure.text,
                        "unit": unit_of(metric, found.spec),
                        "class": name,
                        "mean": shown(summary[key]),
                        "ci": "" if math.isnan(ends[0]) else f"{shown(ends[0])} to {shown(ends[1])}",
                        "found": shown(summary.get(f"{key}/found", math.nan)),
                        "n": [int(summary.get(f"{key}/{n}", 0)) for n in ("n", "n_missed", "n_false", "n_empty")],
                    }
                )
    return lines


def unit_of(metric: str, spec: DataSpec) -> str:
    """Unit of a metric on data of this kind."""
    content = "ml" if spec.kind == "volume" else "px"
    return {"": "", "px": "px", "length": UNIT[spec.kind], "content": content}[MEASURES[metric].unit]


def shown(value: float) -> str:
    """A number as text: four decimals below 10, two from there; a dash for none."""
    if math.isnan(value):
        return "-"
    return f"{value:.4f}" if abs(value) < 10 else f"{value:.2f}"


def show(found: Evaluation, scores: dict[str, float], output: Path) -> None:
    """Print the tables and where the files are."""
    console, title = plain_console(), f"{len(found.rows)} cases: pooled over all pixels, and per case"
    console.print(score_table(scores, found.spec, title))
    console.print(summary_table(found, found.summary()))
    console.print(f"written to  {output}", soft_wrap=True)
    console.print(f"report      {output / 'report.html'}", soft_wrap=True)


def case_metrics(families: Sequence[str] | None, tolerance: float | None, spec: DataSpec) -> CaseMetrics:
    """The families of metrics that are asked for, or those of the kind of data."""
    chosen = DEFAULTS[spec.kind] if families is None else tuple(families)
    background = spec.has_background
    return CaseMetrics(chosen, spec.kind, spec.class_names, background, regions=spec.regions, tolerance=tolerance)
