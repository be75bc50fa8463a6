"""A callback that takes the time which a training spends inside its loggers, and nothing else."""

import json
import time
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any

from lightning import Callback, LightningModule, Trainer

CALLS = ("log_metrics", "log_hyperparams", "log_image", "log_table", "save")


class LoggingClock(Callback):
    """Writes logging.json: seconds of the training loop, and those in calls of loggers within it.

    Args:
        file: to write.
    """

    def __init__(self, file: str) -> None:
        self.file, self.logging_s, self.longest_s, self.start, self._is_inside = Path(file), 0.0, 0.0, 0.0, False

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the clock."""
        for logger in trainer.loggers:
            for name in CALLS:
                if hasattr(logger, name):
                    setattr(logger, name, self._timed(getattr(logger, name)))
        self.start = time.perf_counter()

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stop it."""
        seconds = {"training": time.perf_counter() - self.start, "logging": self.logging_s, "longest": self.longest_s}
        self.file.write_text(json.dumps(seconds))

    def _timed(self, call: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(call)
        def timed(*args: Any, **kwargs: Any) -> Any:
            if self._is_inside:  # log_image calls log_metrics
                return call(*args, **kwargs)
            self._is_inside, begin = True, time.perf_counter()
            try:
                return call(*args, **kwargs)
            finally:
                seconds, self._is_inside = time.perf_counter() - begin, False
                self.logging_s, self.longest_s = self.logging_s + seconds, max(self.longest_s, seconds)

        return timed
