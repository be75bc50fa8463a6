"""What prepare shows on the screen: findings, classes, splits; and what lies in the folder of prepared data."""

import time
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from seglab.data.fingerprint import told
from seglab.data.shelf import DAY_S, Shelved
from seglab.run.reports.data_page import percent, size
from seglab.run.reports.data_report import Report

TONES = {"error": "bold red", "warning": "yellow", "note": "cyan"}
N_PLACES = 3


def progress_bar(console: Console) -> Progress:
    """A bar that counts cases."""
    columns = TextColumn("preparing"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    return Progress(*columns, console=console, transient=True)


def show_report(report: Report, console: Console) -> None:
    """Print the findings, and of a data set that is ready its classes and splits."""
    if report["findings"]:
        console.print(_findings(report))
    if report["classes"]:
        console.print(_classes(report))
    counts = ", ".join(f"{number} {name}{'s' * (number != 1)}" for name, number in report["counts"].items())
    console.print(f"{report['n_cases']} cases of {report['root']}: {counts}", soft_wrap=True)
    if report["fingerprint"]:
        console.print(f"fingerprint {told(report['fingerprint'])}", soft_wrap=True)
    if report["set_aside"] and report["status"] == "ready":
        console.print(f"set aside   {', '.join(report['set_aside'])}", soft_wrap=True)


def show_shelf(stores: Sequence[Shelved], loose: Sequence[Path], console: Console) -> None:
    """Print the prepared data sets, and what belongs to none."""
    table = Table(title="Prepared data", title_justify="left")
    for name, justify in (("folder", "left"), ("cases", "right"), ("size", "right"), ("last used", "right")):
        table.add_column(name, justify=justify)  # type: ignore[arg-type]  # rich's literal
    table.add_column("made of", overflow="fold")
    for store in stores:
        used = "now" if store.in_use else f"{(time.time() - store.used) / DAY_S:.0f} days ago"
        table.add_row(store.folder.name, str(len(store.entries)), size(store.n_bytes), used, store.root)
    console.print(table)
    console.print(f"{len(loose)} entries belong to none of these")


def _findings(report: Report) -> Table:
    table, root = Table(title="Findings", title_justify="left", show_lines=True), Path(report["root"])
    table.add_column("severity")
    for name in ("what", "where", "what to do"):
        table.add_column(name, overflow="fold")
    for finding in report["findings"]:
        places = [_place(root, each["file"], each["value"]) for each in finding["places"]]
        rest = len(places) - N_PLACES
        shown = "\n".join([*places[:N_PLACES], *([f"and {rest} more"] if rest > 0 else [])])
        severity = Text(finding["severity"], TONES[finding["severity"]])
        table.add_row(severity, finding["what"], shown, finding["fix"])
    return table


def _place(root: Path, file: str, value: str) -> str:
    """A value with its file, from the root on, as files of several folders may have one name."""
    path = Path(file).absolute()
    shown = path.relative_to(root).as_posix() if path.is_relative_to(root) else path.name
    return ": ".join(filter(None, [file and shown, value]))


def _classes(report: Report) -> Table:
    table = Table(title="Classes and splits", title_justify="left")
    table.add_column("class")
    table.add_column("pixels", justify="right")
    for split in report["splits"]:
        table.add_column(f"cases in {split['name']} ({split['n_cases']})", justify="right")
    for each in report["classes"]:
        present = [str(split["cases_with"].get(each["name"], 0)) for split in report["splits"]]
        table.add_row(each["name"], percent(each["share"]), *present)
    return table
