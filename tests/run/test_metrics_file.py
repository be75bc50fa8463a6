"""metrics.jsonl: a line is on disk when the call returns, and what a resume repeats counts once."""

import json
import logging
import math
import os
import signal
from pathlib import Path
from typing import Any

import pytest
from lightning.pytorch.loggers import Logger

from seglab.run.tracking.loggers import guarded, open_loggers
from seglab.run.tracking.metrics_file import METRICS, MetricsFile, read_metrics


def values(run_dir: Path) -> list[dict[str, float]]:
    return [{name: value for name, value in row.items() if name != "time"} for row in read_metrics(run_dir)]


def test_a_line_has_step_epoch_time_and_values(tmp_path: Path) -> None:
    MetricsFile(tmp_path).log_metrics({"train/loss": 0.5, "epoch": 1, "bad": math.inf}, step=7)
    row = json.loads((tmp_path / METRICS).read_text())
    assert row.pop("time") > 1.7e9 and row == {"step": 7, "epoch": 1, "train/loss": 0.5, "bad": None}
    assert math.isnan(read_metrics(tmp_path)[0]["bad"])


def test_every_line_that_was_logged_outlives_a_kill(tmp_path: Path) -> None:
    child = os.fork()
    if child == 0:
        log = MetricsFile(tmp_path)
        for step in range(100):
            log.log_metrics({"loss": 1.0, "epoch": 0}, step=step)
        os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(child, 0)
    assert [row["step"] for row in read_metrics(tmp_path)] == list(range(100))


def test_what_was_logged_beyond_the_step_of_a_resume_does_not_count(tmp_path: Path) -> None:
    log = MetricsFile(tmp_path)
    for step in (0, 2, 4, 5):
        log.log_metrics({"loss": 0.1 * step, "epoch": 0}, step=step)
    log.finalize("failed")
    log = MetricsFile(tmp_path)
    for step, loss in ((3, 30.0), (4, 40.0)):
        log.log_metrics({"loss": loss, "epoch": 0}, step=step)
    log.log_metrics({"val": 0.5, "epoch": 0}, step=4)
    expected = [(0, 0.0), (2, 0.2), (3, 30.0), (4, 40.0)]
    assert [(row["step"], row["loss"]) for row in values(tmp_path)] == expected
    assert values(tmp_path)[-1]["val"] == 0.5, "rows of one step are joined"


def test_a_line_that_was_cut_is_left_out_and_spoils_no_other(tmp_path: Path) -> None:
    (tmp_path / METRICS).write_text('{"step": 0, "epoch": 0, "time": 1, "loss": 1.0}\n{"step": 1, "epo')
    log = MetricsFile(tmp_path)
    log.log_metrics({"loss": 2.0, "epoch": 0}, step=1)
    assert [(row["step"], row["loss"]) for row in values(tmp_path)] == [(0, 1.0), (1, 2.0)]


class Broken(MetricsFile):
    """A logger whose calls fail."""

    def log_metrics(self, *_: Any, **__: Any) -> None:
        raise ConnectionResetError("the server is gone")

    def finalize(self, status: str) -> None:
        raise KeyError(status)


def test_a_logger_that_fails_warns_once_and_keeps_its_kind(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    logger = guarded(Broken(tmp_path))
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            assert logger.log_metrics({"a": 1.0}, 0) is None  # type: ignore[func-returns-value]
        logger.finalize("success")
    assert isinstance(logger, Broken) and len(caplog.records) == 1
    assert "Broken fails" in caplog.text and "ConnectionResetError: the server is gone" in caplog.text


def test_the_metrics_file_is_always_written_and_csv_beside_it_on_request(tmp_path: Path) -> None:
    csv = {"csv": {"_target_": "lightning.pytorch.loggers.CSVLogger", "name": "csv"}}
    for config, names in (({"logger": {}}, ["MetricsFile"]), ({"logger": csv}, ["MetricsFile", "CSVLogger"])):
        loggers: list[Logger] = open_loggers(config, tmp_path)
        assert [type(logger).__name__ for logger in loggers] == names
