"""Checkpoints: one function opens any of ours, without the training script and without pickled code."""

import json
from pathlib import Path
from typing import Any

from seglab.errors import CheckpointError
from seglab.run.build import build_task
from seglab.run.checkpoints.plain import read_checkpoint
from seglab.run.moved import at_present
from seglab.spec import DataSpec
from seglab.task.segmentation import SegmentationTask


def find_checkpoint(run_dir: Path, which: str = "best") -> Path:
    """The best or last checkpoint of a run folder.

    Raises:
        CheckpointError: when there is none.
    """
    folder = run_dir / "checkpoints"
    if (folder / f"{which}.ckpt").is_file():
        return folder / f"{which}.ckpt"
    raise CheckpointError(
        "the run has no checkpoint",
        given=f"{folder}/{which}.ckpt",
        allowed=", ".join(file.stem for file in sorted(folder.glob("*.ckpt"))) or "a run that finished an epoch",
        fix="choose one of them with checkpoint=..., train it again, or name another run=...",
    )


def load_task(file: Path) -> SegmentationTask:
    """Rebuild task and network from a checkpoint, in eval mode on the CPU.

    Args:
        file: a checkpoint written by src/train.py.

    Raises:
        CheckpointError: broken, foreign, or of another network.
    """
    content = read_checkpoint(file)
    config = at_present(json.loads(content["seglab"]["config"]))
    task = build_task(config, DataSpec.from_dict(content["seglab"]["spec"]))
    load_weights(task, content, file)
    return task.eval()


def load_weights(task: SegmentationTask, content: dict[str, Any], file: Path) -> None:
    """Copy the weights of a checkpoint into a task; every key must fit.

    Raises:
        CheckpointError: lists the first keys that do not fit.
    """
    given, wanted = content["state_dict"], task.state_dict()
    missing, unexpected = sorted(wanted.keys() - given.keys()), sorted(given.keys() - wanted.keys())
    differing = [key for key in wanted.keys() & given.keys() if wanted[key].shape != given[key].shape]
    if missing or unexpected or differing:
        raise CheckpointError(
            f"the checkpoint belongs to another network than {type(task.net).__name__}",
            given=f"{file}: missing {missing[:3]}, unexpected {unexpected[:3]}, other size {sorted(differing)[:3]}",
            allowed=f"exactly the {len(wanted)} keys of this network",
            fix="use the model and the data that the checkpoint was trained with",
        )
    task.load_state_dict(given, strict=True)
