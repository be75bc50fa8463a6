"""report.html of a data set: one file without anything outside it."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from seglab.files import write_text
from seglab.run.reports.data_pictures import Shown
from seglab.run.reports.data_report import Report
from seglab.run.reports.templates import html_environment

MOST_CASES = 2000
"""Rows of the table of cases; report.json has all."""


def write_page(report: Report, pictures: Sequence[Shown], file: Path) -> None:
    """Write the page.

    Args:
        report: from `describe`.
        pictures: of some cases.
        file: to write.
    """
    environment = html_environment()
    environment.filters |= {"percent": percent, "size": size, "times": times}
    page = environment.get_template("data.html.j2").render(r=report, pictures=pictures, most_cases=MOST_CASES)
    write_text(file, page)


def percent(share: float) -> str:
    """A share with as many digits as it needs."""
    return "none" if share == 0 else f"{share:.3%}" if share < 0.01 else f"{share:.1%}"


def size(n_bytes: float) -> str:
    """Bytes in the unit that fits."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if n_bytes < 1000:
            return f"{n_bytes:.3g} {unit}"
        n_bytes /= 1000
    return f"{n_bytes:.3g} TB"


def times(lengths: Sequence[Any]) -> str:
    """Lengths of the axes, such as 20 x 512 x 512."""
    return " × ".join(f"{length:g}" for length in lengths)
