"""The one place that starts and ends a W&B run: online when a key is there, offline otherwise, never in the way."""

import logging
import os
import re
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import wandb

from seglab.callbacks.stop import Stopped
from seglab.errors import TrainingError
from seglab.run.secrets import scrub, scrub_override
from seglab.run.tracking.metrics_file import METRICS
from seglab.run.tracking.wandb_board import Board, define_axes
from seglab.run.tracking.wandb_identity import identity
from seglab.run.tracking.wandb_link import FLUSH_S, GRACE_S, end_service, finish_within, on_record, tear_down
from seglab.run.tracking.wandb_settings import WandbSettings, choose_mode

log = logging.getLogger("seglab")

FOLDERS = ("WANDB_DATA_DIR", "WANDB_CACHE_DIR", "WANDB_ARTIFACT_DIR")
UNREACHABLE = (wandb.errors.CommError, wandb.errors.AuthenticationError, wandb.errors.UsageError)


def open_wandb(settings: WandbSettings, run_dir: Path, record: Mapping[str, Any], job_type: str = "train") -> Board:
    """Start a W&B run inside the run folder and wrap it for Lightning.

    Args:
        settings: from the configuration.
        run_dir: everything W&B writes lies below it.
        record: run.json: `run_id` becomes the id of the W&B run, and the same id goes on with the same run.
        job_type: train or evaluate.
    """
    mode = choose_mode(settings.mode)
    for name in FOLDERS if mode != "disabled" else ():
        os.environ.setdefault(name, str(run_dir / "wandb"))
    os.environ.setdefault("WANDB_SILENT", "true")
    os.environ.setdefault("WANDB_ERROR_REPORTING", "false")  # it would wait for the server at the end
    told = identity(settings, run_dir, record, job_type)
    try:
        run = _start(settings, run_dir, told, mode)
    except UNREACHABLE as error:
        log.warning(f"{_refusal(error)}; the run goes on offline. Send it later: wandb sync {_offline_runs(run_dir)}")
        tear_down(GRACE_S)
        run = _start(settings, run_dir, told, "offline")
    define_axes(on_record(run))
    log.info(f"W&B run {run.id} ({run.settings.mode}) in {run_dir / 'wandb'}")
    return Board(run, settings)


def close_wandb(exit_code: int, error: BaseException | None = None) -> None:
    """End the W&B run, if one was started; a failed job is shown as failed, and what was asked for is alerted.

    Args:
        exit_code: of the job.
        error: that ended it.
    """
    run = wandb.run
    if run is None:
        return
    folder, place = Path(run.settings.wandb_dir), Path(run.settings.sync_dir)
    seconds = run.settings.finish_timeout
    try:
        _alert(run, exit_code, error)
        if not finish_within(seconds, exit_code):
            log.warning(
                f"W&B's server did not take everything within {seconds:g} s (logger.wandb.finish_timeout_s); all of it "
                f"is in the run folder. Send it later: wandb sync --no-skip-online {place}"
            )
    except ConnectionError:
        end_service()  # else it is asked once more when this process ends
        log.warning(f"W&B's process died during the run: {place} ends there, {METRICS} in the run folder goes on")
    finally:
        for name in FOLDERS:
            if Path(os.environ.get(name, "")) == folder:  # ours: a later run in this process has a folder of its own
                del os.environ[name]


def _start(settings: WandbSettings, run_dir: Path, told: Mapping[str, Any], mode: str) -> Any:
    with _without_secrets():
        return wandb.init(
            project=settings.project,
            entity=settings.entity,
            dir=run_dir,
            resume="allow",
            mode=mode,  # type: ignore[arg-type]  # checked against MODES by the entry
            settings=wandb.Settings(
                init_timeout=settings.start_timeout_s,
                finish_timeout=settings.finish_timeout_s,
                finish_timeout_raises=True,
                x_transaction_log_flush_interval=FLUSH_S,
                disable_git=True,  # it keeps the user-info of the remote's URL; commit and changes are sent by us
                silent=True,
            ),
            **told,
        )


@contextmanager
def _without_secrets() -> Iterator[None]:
    """While a run starts, W&B notes the command line: one without secrets."""
    typed = sys.argv
    sys.argv = [scrub_override(text) for text in typed]
    try:
        yield
    finally:
        sys.argv = typed


def _alert(run: Any, exit_code: int, error: BaseException | None) -> None:
    """The one place for alerts; a run that was stopped by a signal sends none."""
    wanted = run.config.get("logger", {}).get("wandb", {}).get("alerts") or []
    is_nan, is_stopped = isinstance(error, TrainingError), isinstance(error, Stopped) or exit_code > 128
    kind = "finished" if exit_code == 0 else "stopped" if is_stopped else "diverged" if is_nan else "crash"
    if kind not in wanted or (kind == "finished" and run.group):
        return
    text = scrub(f"{type(error).__name__}: {error}") if error else f"{run.name}: exit code {exit_code}"
    run.alert(title=f"{kind}: {run.id}"[:63], text=text, level="INFO" if kind == "finished" else "ERROR")


def _refusal(error: Exception) -> str:
    if not isinstance(error, wandb.errors.CommError) or re.search(r"\b40[13]\b", str(error)):
        return f"W&B refuses the API key ({_line(error)}): type `wandb login`"
    return f"W&B cannot be reached ({_line(error)})"


def _line(error: Exception) -> str:
    return scrub(str(error)).partition("\n")[0]


def _offline_runs(run_dir: Path) -> Path:
    return run_dir / "wandb" / "offline-run-*"
