"""What the processes of a training had and saw, written down by each of them alone; for both ways of sweep_truth.py."""

import hashlib
import json
import os
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from lightning import Callback, LightningModule, Trainer


class Witness(Callback):
    """Writes a line when a process starts to train, and one with all it has seen when it has trained.

    Args:
        file: JSON lines, of all processes of a sweep.
        fails: whether process 1 of the training fails in its first step.
    """

    def __init__(self, file: str, *, fails: bool = False) -> None:
        self.file, self.fails = Path(file), fails
        self.samples: list[str] = []

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Note the learning rate, and how many processes the trainer counts on."""
        self._write(trainer, at="start", rate=trainer.optimizers[0].param_groups[0]["lr"], world=trainer.world_size)

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Note the samples of a batch.

        Raises:
            RuntimeError: on process 1, when it is to fail.
        """
        if self.fails and trainer.global_rank == 1:
            raise RuntimeError("this job was planned to fail")
        self.samples += map(str, batch["case"])

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Note the samples and a hash of the weights."""
        found = hashlib.sha256()
        for parameter in pl_module.parameters():
            found.update(parameter.detach().cpu().numpy().tobytes())
        self._write(trainer, at="end", samples=self.samples, weights=found.hexdigest()[:12])

    def _write(self, trainer: Trainer, **facts: Any) -> None:
        hydra = HydraConfig.get()
        place = {"job": int(hydra.job.num), "folder": hydra.runtime.output_dir}
        line = {**place, "rank": trainer.global_rank, "pid": os.getpid(), **facts}
        with self.file.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(line) + "\n")
