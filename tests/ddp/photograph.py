"""Callbacks for the processes of a run: a photograph of its folder, what each has of its own, and the end of all."""

import hashlib
import json
import os
import shutil
import signal
from pathlib import Path
from typing import Any

import torch
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint


class Photograph(Checkpoint):
    """Copies the run folder as it is after an optimizer step, as a power cut would leave it.

    Args:
        step: optimizer steps done.
        copy: folder to make.
    """

    def __init__(self, step: int, copy: str) -> None:
        self.step, self.copy = step, Path(copy)

    def on_train_batch_start(self, trainer: Trainer, *_: Any) -> None:
        if trainer.is_global_zero and trainer.global_step == self.step and not self.copy.exists():
            half = shutil.ignore_patterns(".part-*")  # of the watch's thread, which come and go
            shutil.copytree(trainer.default_root_dir, self.copy, ignore=half)


class Kill(Checkpoint):
    """Ends all processes after the same optimizer step, as a machine that fails does.

    Args:
        step: optimizer steps done.
    """

    def __init__(self, step: int) -> None:
        self.step = step

    def on_train_batch_end(self, trainer: Trainer, *_: Any) -> None:
        if trainer.global_step == self.step:
            trainer.strategy.barrier()
            os.kill(os.getpid(), signal.SIGKILL)


class Witness(Checkpoint):
    """Writes, on each process, the seed of every step's noise, and hashes of weights and buffers after each epoch.

    Args:
        folder: gets rank<N>.json.
    """

    def __init__(self, folder: str) -> None:
        self.folder = Path(folder)
        self.seeds: list[int] = []
        self.hashes: list[tuple[str, str]] = []

    def on_train_start(self, *_: Any) -> None:
        torch.manual_seed(int.from_bytes(os.urandom(4), "big"))

    def on_train_batch_end(self, *_: Any) -> None:
        self.seeds.append(torch.initial_seed())

    def on_train_epoch_end(self, trainer: Trainer, module: LightningModule) -> None:
        self.hashes.append((hash_of(module.net.parameters()), hash_of(module.net.buffers())))

    def on_train_end(self, trainer: Trainer, *_: Any) -> None:
        self.folder.mkdir(exist_ok=True)
        content = {"seeds": self.seeds, "hashes": self.hashes}
        (self.folder / f"rank{trainer.global_rank}.json").write_text(json.dumps(content))


def hash_of(tensors: Any) -> str:
    """Of all bytes."""
    found = hashlib.sha256()
    for tensor in tensors:
        found.update(tensor.detach().numpy().tobytes())
    return found.hexdigest()
