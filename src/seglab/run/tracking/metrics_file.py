"""metrics.jsonl: every logged value of a run, a line at a time, so that a kill loses nothing that was logged before."""

import json
import math
import time
from argparse import Namespace
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

from lightning.pytorch.loggers import Logger
from lightning.pytorch.utilities import rank_zero_only

METRICS = "metrics.jsonl"

Row = dict[str, float]


class MetricsFile(Logger):
    """Appends {"step": ..., "epoch": ..., "time": ..., <name>: <value>, ...} to metrics.jsonl of the run folder.

    step counts optimizer steps from 0, time is in seconds since 1970, a value that is not finite is null. A run that is
    resumed goes on in the same file; `read_metrics` knows what counts then.

    Args:
        run_dir: folder of the run.
    """

    def __init__(self, run_dir: Path) -> None:
        super().__init__()
        self.file = run_dir / METRICS
        self._stream: BinaryIO | None = None

    @property
    def name(self) -> str:
        """What the log is called."""
        return "metrics"

    @property
    def version(self) -> str:
        """There is one in a run folder."""
        return ""

    @property
    def save_dir(self) -> str:
        """Folder of the file."""
        return str(self.file.parent)

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Append a line; when this returns the system has it."""
        values = {name: float(value) for name, value in metrics.items()}
        row = {"step": step, "epoch": int(values.pop("epoch", 0)), "time": round(time.time(), 3)}
        row |= {name: value if math.isfinite(value) else None for name, value in values.items()}
        self._stream = self._stream or self._open()
        self._stream.write(json.dumps(row).encode() + b"\n")

    def log_hyperparams(self, params: dict[str, Any] | Namespace, *args: Any, **kwargs: Any) -> None:
        """They are in run.json."""

    def finalize(self, status: str) -> None:
        """Close the file, until more is logged."""
        if self._stream is not None:
            self._stream.close()
            self._stream = None

    def _open(self) -> BinaryIO:
        """The file without a buffer, at the start of a line: a process may have been killed while it wrote."""
        stream = self.file.open("ab", buffering=0)
        if stream.tell() > 0 and self.file.read_bytes()[-1:] != b"\n":
            stream.write(b"\n")
        return stream


def read_metrics(run_dir: Path) -> list[Row]:
    """What a run logged: one row per step with all its values, null as NaN, in the order of steps.

    Where the steps of the file go back, the run was resumed: what was logged from that step on before does not count.

    Args:
        run_dir: folder of the run.
    """
    rows: dict[int, Row] = {}
    for line in (run_dir / METRICS).read_text(encoding="utf-8").splitlines():
        try:
            values = json.loads(line)
        except ValueError:  # cut by a kill
            continue
        step = int(values["step"])
        if rows and step < max(rows):
            rows = {known: row for known, row in rows.items() if known < step}
        row = {name: math.nan if value is None else value for name, value in values.items()}
        rows[step] = rows.get(step, {}) | row
    return list(rows.values())
