"""The record of a sweep: which job has which overrides, number and folder, and how it ended."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from rich.table import Table
from rich.text import Text

from seglab.errors import ConfigError
from seglab.run.record import write_json, write_rows
from seglab.run.secrets import scrub_override


@dataclass
class Job:
    """One job of a sweep.

    Args:
        number: stays with these overrides for ever.
        program: name of the script, and the flags that choose its configuration.
        overrides: as Hydra's sweeper hands them out; Hydra parses them as they stand.
        folder: run folder, seen from the folder of the sweep.
        status: waiting, running, finished, failed or stopped.
        value: of its result.json, None for none.
        seconds: of all its starts.
        error: one line, None unless it failed.
    """

    number: int
    program: list[str]
    overrides: list[str]
    folder: str
    status: str = "waiting"
    value: float | None = None
    seconds: float = 0.0
    error: str | None = None


class SweepRecord:
    """The jobs of a sweep by number, kept without secrets in sweep.json and, for reading, in sweep.csv.

    Args:
        folder: of the sweep; what sweep.json says there is taken over, and each job is asked for its result again.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.told_apart_by: Sequence[str] | None = None  # keys in the titles of jobs; None: those that differ
        self.jobs: dict[int, Job] = {}
        file = folder / "sweep.json"
        for number, entry in (json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}).items():
            job = self.jobs[int(number)] = Job(int(number), **entry)
            if has_finished(self.place(job), ended_well=job.status == "finished"):
                job.status, job.value, job.error = "finished", read_result(self.place(job)).get("value"), None
            elif job.status in ("finished", "running"):
                job.status, job.value = "stopped", None

    def find(self, program: Sequence[str], overrides: Sequence[str]) -> Job | None:
        """The job of a program with these overrides, in whatever order; a secret that the file hid is filled in."""
        forms = sorted(overrides), sorted(map(hidden, overrides))
        for job in self.jobs.values():
            if job.program == list(program) and sorted(job.overrides) in forms:
                job.overrides = list(overrides)
                return job
        return None

    def free_number(self, wanted: int) -> int:
        """The wanted number, or the next free one when a job or a folder has it."""
        taken = {*self.jobs, *(int(path.name) for path in self.folder.iterdir() if path.name.isdecimal())}
        return max(taken) + 1 if wanted in taken else wanted

    def add(self, number: int, program: Sequence[str], overrides: Sequence[str], folder: str) -> Job:
        """Note a new job.

        Raises:
            ConfigError: another job has the folder.
        """
        if folder in {job.folder for job in self.jobs.values()}:
            raise ConfigError(
                "two jobs of a sweep would share a folder",
                given=f"hydra.sweep.subdir={folder}",
                allowed="a name that differs between jobs",
                fix="leave hydra.sweep.subdir out",
            )
        job = self.jobs[number] = Job(number, list(program), list(overrides), folder)
        return job

    def place(self, job: Job) -> Path:
        """The run folder of a job."""
        return self.folder / job.folder

    def write(self) -> None:
        """Write both files, each in one piece."""
        jobs = [self.jobs[number] for number in sorted(self.jobs)]
        entries = {str(job.number): _entry(job) for job in jobs}
        write_json(self.folder / "sweep.json", entries)
        keys = self._keys()
        ends = ("status", "value", "seconds", "folder")
        write_rows(
            self.folder / "sweep.csv",
            [
                {"number": job.number, **{key: settings(job).get(key, "") for key in keys}}
                | {name: getattr(job, name) for name in ends}
                for job in jobs
            ],
        )

    def title(self, job: Job) -> str:
        """Number and what tells the job from the others: "#3 seed=1 model=unet"."""
        varied = [f"{key}={settings(job)[key]}" for key in self._varied() if key in settings(job)]
        return " ".join([f"#{job.number}", *varied])

    def table(self) -> Table:
        """All jobs: what differs between them, how they ended, and their values."""
        keys = self._varied()
        table = Table(title=f"{len(self.jobs)} jobs", title_justify="left")
        for name in ("job", *keys, "status"):
            table.add_column(name)
        for name in ("value", "time"):
            table.add_column(name, justify="right")
        for number in sorted(self.jobs):
            job = self.jobs[number]
            cells = [Text(settings(job).get(key, "")) for key in keys]
            table.add_row(str(number), *cells, job.status, shown_value(job.value), shown_time(job.seconds))
        return table

    def _keys(self) -> list[str]:
        return list(dict.fromkeys(key for job in self.jobs.values() for key in settings(job)))

    def _varied(self) -> Sequence[str]:
        if self.told_apart_by is not None:
            return self.told_apart_by
        jobs = self.jobs.values()
        return [key for key in self._keys() if len({settings(job).get(key) for job in jobs}) > 1]


def settings(job: Job) -> dict[str, str]:
    """Key and value of each override of a job, without secrets."""
    return dict(map(setting, job.overrides))


@cache
def setting(override: str) -> tuple[str, str]:
    """Key and value of an override, the value of a string without Hydra's quotes; *** for a secret."""
    parsed = OverridesParser.create().parse_override(override)
    key, value = parsed.get_key_element(), parsed.value()
    text = value if isinstance(value, str) else parsed.get_value_element_as_str()
    return key, scrub_override(f"{key}={text}").removeprefix(f"{key}=")


@cache
def hidden(override: str) -> str:
    """An override without secrets; a sweep asks for each of them often."""
    return scrub_override(override)


def _entry(job: Job) -> dict[str, Any]:
    """What sweep.json says of a job."""
    entry = asdict(job) | {"overrides": list(map(hidden, job.overrides))}
    del entry["number"]
    return entry


def read_result(folder: Path) -> Mapping[str, Any]:
    """result.json of a run folder; empty when there is none."""
    try:
        content: Mapping[str, Any] = json.loads((folder / "result.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content


def has_finished(folder: Path, *, ended_well: bool) -> bool:
    """Whether a job is done: its result says so; a job that writes no result and no run.json ended well.

    Args:
        folder: of the job.
        ended_well: with exit code 0.
    """
    result = read_result(folder)
    if result or (folder / "run.json").is_file():
        return result.get("status") == "finished"
    return ended_well and folder.is_dir()


def shown_value(value: float | None) -> str:
    """A value for the screen; - for none."""
    return "-" if value is None or not math.isfinite(value) else f"{value:.4f}"


def shown_time(seconds: float) -> str:
    """Seconds as 42 s, 3 min 20 s or 2 h 5 min."""
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s" if minutes else f"{rest} s"
    return f"{minutes // 60} h {minutes % 60} min"
