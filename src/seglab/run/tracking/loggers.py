"""The loggers of a run; what happens to one of them never stops a training."""

import logging
from collections.abc import Callable, Iterable
from functools import wraps
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import Logger

from seglab.run.build import Config
from seglab.run.ids import is_main_process
from seglab.run.make import make
from seglab.run.record import read_run
from seglab.run.tracking.metrics_file import MetricsFile

log = logging.getLogger("seglab")

CALLS = ("log_metrics", "log_hyperparams", "log_image", "log_text", "log_table", "save", "finalize")
OURS = ("log_start", "log_test", "log_files")
"""Calls that a logger may have beside Lightning's; see `Board`."""


def open_loggers(config: Config, run_dir: Path) -> list[Logger]:
    """metrics.jsonl always; W&B, CSV, TensorBoard or others as configured, on the main process only.

    Args:
        config: of the run.
        run_dir: folder of the run, with its run.json.
    """
    loggers: list[Logger] = [guarded(MetricsFile(run_dir))]
    if is_main_process():
        for name, node in (config.get("logger") or {}).items():
            loggers.append(guarded(_open_logger(name, node, run_dir)))
    return loggers


def tell(loggers: Iterable[Logger], call: str, *arguments: Any) -> None:
    """Call those loggers that have it.

    Args:
        loggers: of a run.
        call: one of OURS.
        arguments: of the call.
    """
    for logger in loggers:
        if hasattr(logger, call):
            getattr(logger, call)(*arguments)


def guarded(logger: Logger) -> Logger:
    """The same logger, whose calls warn once instead of raising: a server may be lost, or a disk be full."""
    has_warned: list[bool] = []
    title = getattr(logger, "title", type(logger).__name__)
    for name in (*CALLS, *OURS):
        if hasattr(logger, name):
            setattr(logger, name, unfailing(getattr(logger, name), title, has_warned))
    return logger


def unfailing(call: Callable[..., Any], name: str, has_warned: list[bool]) -> Callable[..., Any]:
    """A call that returns None and warns where the given one raises.

    Args:
        call: of a logger.
        name: of the logger.
        has_warned: shared by its calls; filled at the first warning, the only one.
    """

    @wraps(call)
    def safe(*args: Any, **kwargs: Any) -> Any:
        """Call, and warn the first time that it raises."""
        try:
            return call(*args, **kwargs)
        except Exception as error:  # noqa: BLE001  # whatever a logger does, the training goes on
            if not has_warned:
                has_warned.append(True)
                log.warning(f"{name} fails, the training goes on without it: {type(error).__name__}: {error}")
            return None

    return safe


def _open_logger(name: str, node: Config, run_dir: Path) -> Logger:
    if name == "wandb":
        from seglab.run.tracking.wandb_run import open_wandb

        return open_wandb(make(node, "logger.wandb"), run_dir, read_run(run_dir))
    logger: Logger = make({"save_dir": str(run_dir), **node}, f"logger.{name}")
    return logger
