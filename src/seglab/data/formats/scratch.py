"""Arrays in a file instead of memory, for volumes that are read once and then used part by part.

The file has no name, so nothing is left of it when the process ends, however it does. Pages of it that are mapped count
as memory of the process: `forget` gives them back, what they hold stays in the file.
"""

import math
import mmap
import os
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import DTypeLike, NDArray


def empty(shape: Sequence[int], dtype: DTypeLike, folder: Path | None) -> NDArray[Any]:
    """An array whose values are to be set.

    Args:
        shape: of the array, at least one value.
        dtype: of the values.
        folder: where the file lies, on a disk with room for it; None for memory.

    Raises:
        OSError: no room on the disk.
    """
    if folder is None:
        return np.empty(shape, dtype)
    n_bytes = math.prod(shape) * np.dtype(dtype).itemsize
    with tempfile.TemporaryFile(dir=folder) as file:
        claim(file, n_bytes)
        mapped = mmap.mmap(file.fileno(), n_bytes)
    return np.ndarray(shape, dtype, buffer=mapped)


def forget(array: NDArray[Any]) -> None:
    """Give back the memory of an array that lies in a file; of any other nothing changes."""
    owner: Any = array
    while isinstance(owner, np.ndarray):
        owner = owner.base
    if isinstance(owner, mmap.mmap) and hasattr(mmap, "MADV_DONTNEED"):
        owner.madvise(mmap.MADV_DONTNEED)


def planes(volume: NDArray[Any]) -> Iterator[NDArray[Any]]:
    """The planes (H, W) of (C, D, H, W), none of which stays in memory where the volume lies in a file."""
    for channel in volume:
        for plane in channel:
            yield plane
            forget(volume)


def claim(stream: BinaryIO, n_bytes: int) -> None:
    """Make a file as long; a full disk is told now, where the system can, as a write into mapped pages cannot tell.

    Raises:
        OSError: no room on the disk.
    """
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(stream.fileno(), 0, n_bytes)
    else:
        stream.truncate(n_bytes)
