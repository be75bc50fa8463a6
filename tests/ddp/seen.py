"""Seen: a callback that writes down which cases each process was given."""

import json
from pathlib import Path
from typing import Any

from lightning import Callback, Trainer


class Seen(Callback):
    """Writes rank<N>.json, with the case of every training sample in order.

    Args:
        folder: made here.
    """

    def __init__(self, folder: str) -> None:
        self.folder = Path(folder)
        self.cases: list[str] = []

    def on_train_batch_start(self, trainer: Trainer, module: Any, batch: dict[str, Any], batch_idx: int) -> None:
        self.cases += batch["case"]

    def on_train_end(self, trainer: Trainer, module: Any) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / f"rank{trainer.global_rank}.json").write_text(json.dumps(self.cases))
