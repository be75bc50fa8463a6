"""What an evaluation leaves behind: metrics.json, cases.csv, subgroups.json and report.html.

The page is one file that needs no network; its tables are sorted by mouse and keyboard.
"""

import base64
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from seglab.files import write_text
from seglab.metrics.measures import MEASURES, SIZES
from seglab.metrics.report import SCORES
from seglab.run.evaluation import Evaluation, shown, summary_lines, unit_of, whole_rows
from seglab.run.record import write_json, write_rows
from seglab.run.reports.charts import histogram, reliability, scatter
from seglab.run.reports.templates import html_environment

TEMPLATE = "report.html.j2"
MOST_ROWS = 2000
"""Cases in the table of the page; cases.csv has all."""

MOST_PICTURES = 12

DRAWN = ("dice", "nsd", "hd95", "boundary_iou", "cldice", "f1_2px", "lesion_f1")
"""Metrics whose distribution is drawn, where they were measured."""


def write_evaluation(found: Evaluation, output: Path) -> dict[str, float]:
    """Write everything into a folder.

    Args:
        found: scored cases.
        output: the folder; pictures lie in its subfolder cases.

    Returns:
        The content of metrics.json.

    Raises:
        ConfigError: an unknown column of subgroups.
    """
    parts, summary = found.by_subgroup(), found.summary()
    scores = {f"test/{name}": float(value) for name, value in ({**found.pooled, **summary}).items()}
    if found.calibration is not None:
        scores |= {"test/ece": found.calibration.ece, "test/brier": found.calibration.brier}
    write_json(output / "metrics.json", scores)
    write_rows(output / "cases.csv", whole_rows(found.rows))
    if parts:
        write_json(output / "subgroups.json", parts)
    write_page(found, summary, parts, output)
    return scores


def write_page(found: Evaluation, summary: Mapping[str, float], parts: Mapping[str, Any], output: Path) -> None:
    """Write report.html into a folder.

    Args:
        found: scored cases.
        summary: means over cases.
        parts: the same of subgroups.
        output: the folder; pictures lie in its subfolder cases.
    """
    environment = html_environment()
    environment.filters["shown"] = shown
    page = environment.get_template(TEMPLATE).render(
        found=found,
        lines=summary_lines(found, summary),
        pooled=[(name, [found.pooled[f"{s}/{name}"] for s in SCORES]) for name in (*found.spec.class_names, "mean")],
        lesions=_lesions(found, summary),
        charts=_charts(found),
        reliability=None if found.calibration is None else reliability(found.calibration.curve()),
        confusion=_confusion(found.counts),
        worst=_worst(found, output / "cases"),
        table=_table(found),
        most_rows=MOST_ROWS,
        subgroups=_subgroups(found, parts),
    )
    write_text(output / "report.html", page)


def _charts(found: Evaluation) -> list[tuple[str, Any]]:
    charts = []
    for metric in DRAWN:
        for name in found.names:
            values = [value for row in found.rows if not math.isnan(value := row.get(f"{metric}/{name}", math.nan))]
            if values:
                unit = unit_of(metric, found.spec)
                upper = 1.0 if MEASURES[metric].better == "higher" else None
                label = f"{metric} of {name}" + (f" in {unit}" if unit else "")
                charts.append((label, histogram(values, label, upper=upper)))
    for name in found.names:
        sizes = [(row[f"n_true/{name}"], row[f"dice/{name}"], str(row["case"])) for row in found.rows]
        if points := [(float(n), dice, case) for n, dice, case in sizes if n]:
            charts.append((f"dice of {name} over its true size", scatter(points, f"true pixels of {name}", "dice")))
    return charts


def _lesions(found: Evaluation, summary: Mapping[str, float]) -> list[tuple[str, str, float, int]]:
    lines = []
    for name in found.names:
        for size in ("", *SIZES):
            key = f"lesion_sensitivity{'_' * bool(size)}{size}/{name}"
            if summary.get(f"{key}/n"):
                lines.append((name, size or "all", summary[key], int(summary[f"{key}/n"])))
    return lines


def _confusion(counts: Sequence[Sequence[int]]) -> list[list[tuple[int, float]]]:
    """Pixels, and their share of the true class."""
    return [[(n, n / max(sum(row), 1)) for n in row] for row in counts]


def _worst(found: Evaluation, folder: Path) -> list[dict[str, Any]]:
    shown = []
    for row in found.worst_first:
        file = folder / f"{row['case']}.jpg"
        if row["case"] in found.slices and file.is_file():
            data = base64.b64encode(file.read_bytes()).decode("ascii")
            dice = {name: row[f"dice/{name}"] for name in found.names if not math.isnan(row[f"dice/{name}"])}
            z = found.slices[row["case"]] if found.spec.kind == "volume" else None
            shown.append({"case": row["case"], "z": z, "dice": dice, "picture": f"data:image/jpeg;base64,{data}"})
    return shown[:MOST_PICTURES]


def _table(found: Evaluation) -> tuple[list[str], list[list[Any]]]:
    rows = whole_rows(found.worst_first[:MOST_ROWS])
    return list(rows[0]) if rows else ["case"], [list(row.values()) for row in rows]


def _subgroups(found: Evaluation, parts: Mapping[str, Any]) -> list[tuple[str, list[str], list[list[Any]]]]:
    """For each column a table: subgroup, cases, and the means that are drawn."""
    tables = []
    for column, groups in parts.items():
        keys = [f"case_{metric}/{name}" for metric in DRAWN for name in found.names]
        keys = [key for key in keys if any(key in group for group in groups.values())]
        rows = [[name, group["n_cases"], *(group.get(key, math.nan) for key in keys)] for name, group in groups.items()]
        tables.append((column, [column, "cases", *(key.removeprefix("case_") for key in keys)], rows))
    return tables
