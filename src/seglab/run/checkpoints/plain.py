"""Checkpoints are plain data: reading them runs no code, and what could not be read again is not written either."""

import os
import pickle
from collections.abc import Mapping
from io import BytesIO
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from seglab.errors import CheckpointError
from seglab.run.checkpoints.manifest import find_fault

NOT_PLAIN = (pickle.PicklingError, pickle.UnpicklingError, AttributeError, TypeError)
"""What torch raises when it writes or reads something other than plain data."""

UNREADABLE = (OSError, EOFError, RuntimeError, ValueError, KeyError, TypeError, pickle.UnpicklingError)
"""What torch raises when a file is no checkpoint, or only a part of one."""


def read_checkpoint(file: Path, map_location: Any | None = None) -> dict[str, Any]:
    """Read a checkpoint as plain data; code in it is never run.

    Args:
        file: a checkpoint of ours.
        map_location: where tensors go, the CPU if not given.

    Raises:
        CheckpointError: a missing, damaged or foreign file.
    """
    fault = find_fault(file)
    try:
        if fault is None:
            content: Any = torch.load(file, map_location=map_location or "cpu", weights_only=True)
    except UNREADABLE as error:
        fault = str(error).partition("\n")[0] or type(error).__name__
    if fault is not None:
        raise CheckpointError(
            "the checkpoint cannot be read",
            given=f"{file}: {fault}",
            allowed="a whole checkpoint written by seglab",
            fix="use another one with checkpoint=best, last or previous; resume=... finds a sound one by itself",
        )
    if not isinstance(content, dict) or "seglab" not in content:
        shown = ", ".join(sorted(map(str, content))[:6]) if isinstance(content, dict) else type(content).__name__
        raise CheckpointError(
            "the checkpoint was not written by seglab",
            given=f"{file} with {shown}",
            allowed="a checkpoint with the key 'seglab' (configuration and data spec)",
            fix="name a run folder of src/train.py with run=...",
        )
    return content


def local_file(path: str | os.PathLike[str]) -> Path:
    """A path on this machine's disks.

    Raises:
        CheckpointError: an address; what is fetched from elsewhere is not opened.
    """
    if "://" in str(path):
        raise CheckpointError(
            "checkpoints are read and written on disk only",
            given=str(path),
            allowed="a path",
            fix="fetch the run folder yourself, from where you trust, and name it",
        )
    return Path(path)


def not_plain(content: Any) -> CheckpointError:
    """The error for a state that could not be opened again; names the first key that is at fault."""
    return CheckpointError(
        "the state of the training is not plain data, so it could never be resumed",
        given=first_unsafe(content) or "a checkpoint of which each part alone could be read",
        allowed="tensors, numbers, strings, None, and dict, list or tuple of them",
        fix="convert it in the state_dict or on_save_checkpoint that puts it there",
    )


def first_unsafe(value: Any, key: str = "") -> str | None:
    """Where nested data first holds something that does not load as plain data: its key and type, or None."""
    if isinstance(value, Tensor) or _loads(value):
        return None
    parts = value.items() if isinstance(value, Mapping) else enumerate(value) if isinstance(value, list | tuple) else ()
    inner = (first_unsafe(part, f"{key}.{name}" if key else str(name)) for name, part in parts)
    return next(filter(None, inner), f"{key} ({type(value).__module__}.{type(value).__qualname__})")


def _loads(value: Any) -> bool:
    buffer = BytesIO()
    try:
        torch.save(value, buffer)
        torch.load(BytesIO(buffer.getvalue()), weights_only=True)
    except (*NOT_PLAIN, RuntimeError):
        return False
    return True
