"""Preempt: a callback that lets a command take the job away at one step, as a scheduler would at any moment."""

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from lightning import Callback, Trainer

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "run"))

from fault_callbacks import wait_until_told


class Preempt(Callback):
    """Runs shell commands, each before a step of its own, once in the life of a run, and waits for what they do.

    Args:
        steps: optimizer steps done.
        commands: one for each; PARENT stands for the process that has started this one.
        marks: folder that remembers what has been run.
    """

    def __init__(self, steps: list[int], commands: list[str], marks: str) -> None:
        self.commands, self.marks = dict(zip(steps, commands, strict=True)), Path(marks)

    def on_train_batch_start(self, trainer: Trainer, *_: Any) -> None:
        mark = self.marks / f"preempted-{trainer.global_step}"
        command = self.commands.get(trainer.global_step)
        if command and trainer.is_global_zero and not mark.exists():
            mark.touch()
            done = mark.with_name(f"{mark.name}-done")
            text = f"{command.replace('PARENT', str(os.getppid()))}; touch {done}"
            words = ["setsid", "--fork", "sh", "-c", text]
            subprocess.run(words, check=True)  # it is no child of this process, which it sends signals to
            while not done.exists():
                time.sleep(0.01)
            wait_until_told(trainer)
