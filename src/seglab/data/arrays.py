"""How the arrays of a prepared case lie on disk: mapped into memory, whole or in small compressed blocks.

Photos and rasters are plain .npy. Volumes are blosc2 arrays: a chunk is a slice, cut into blocks that fit into the
nearest cache of a core, packed by LZ4, the bytes of a value apart. A slice, some neighbouring slices and a 3-D patch
each unpack little more than they need, so one file serves 2-D, 2.5-D and 3-D training.
"""

import logging
import os
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from seglab.data.packed import NO_LIMITS, Packed, reading

CHUNK, BLOCK = (1, 512, 512), (1, 64, 64)
LEVEL = 5
"""Of LZ4's thorough packer, which finds fewer and longer repetitions than its fast one: a real CT is unpacked in two
thirds of the time and a tenth smaller; writing 50 million voxels takes 0.4 to 0.7 s longer."""

SUFFIXES = (".b2nd", ".npy")
Stored = Any
"""A mapped array: numpy's or `Packed`, which are indexed alike and give numpy arrays."""


def write_array(stem: Path, array: NDArray[Any], *, compress: bool) -> None:
    """Write an array beside `stem`, with the ending of its layout, and force it to disk.

    Args:
        stem: path without ending.
        array: any shape; the last three axes are (D, H, W) where it is compressed.
        compress: as a blosc2 array, else as .npy.

    Raises:
        OSError: the disk is full or cannot be written.
    """
    file = stem.with_name(stem.name + SUFFIXES[0 if compress else 1])
    if compress:
        blosc2, leading = _blosc2(), (1,) * (array.ndim - 3)
        packing = blosc2.CParams(
            codec=blosc2.Codec.LZ4HC,
            clevel=LEVEL,
            filters=[blosc2.Filter.SHUFFLE],
            splitmode=blosc2.SplitMode.ALWAYS_SPLIT,
            nthreads=1,
        )
        blosc2.asarray(
            np.ascontiguousarray(array),
            urlpath=str(file),
            mode="w",
            chunks=(*leading, *_at_most(CHUNK, array.shape)),
            blocks=(*leading, *_at_most(BLOCK, array.shape)),
            cparams=packing,
        )
    else:
        np.save(file, np.ascontiguousarray(array))
    with file.open("rb") as stream:
        os.fsync(stream.fileno())


@lru_cache(maxsize=256)  # each mapped file keeps a file descriptor, of which a process may have 1024
def open_array(folder: str, name: str) -> Stored:
    """Map what `write_array` has written; what is indexed is read, nothing else.

    Args:
        folder: of the file; text, as a path takes as long to look up as a slice to read.
        name: of the file, without ending.

    Raises:
        DataError: the file is damaged, or missing.
    """
    packed, plain = (Path(folder, name + suffix) for suffix in SUFFIXES)
    if packed.is_file():
        blosc2 = _blosc2()
        with reading(packed):
            array = blosc2.open(str(packed), mode="r", mmap_mode="r", dparams=blosc2.DParams(nthreads=1))
        return Packed(packed, array)
    with reading(plain):
        return np.load(plain, mmap_mode="r", allow_pickle=False)


def read_box(array: Stored, start: Sequence[int], stop: Sequence[int]) -> NDArray[Any]:
    """A box of an array, the leading axes whole.

    Args:
        array: from `open_array`.
        start: first index along each of the last axes, not negative.
        stop: end along each of them, within the array.
    """
    if isinstance(array, np.ndarray):
        place: tuple[Any, ...] = (..., *map(slice, start, stop))
        box: NDArray[Any] = array[place]
        return box
    packed: Packed = array
    return packed.box(*_corners(packed, start, stop))


def read_scaled(
    array: Stored,
    start: Sequence[int],
    stop: Sequence[int],
    lines: NDArray[np.float32],
    limits: tuple[float, float] = NO_LIMITS,
) -> NDArray[np.float32] | None:
    """The same, clipped and scaled, of an array that can be read so in one go, see `Packed.scaled`; else None."""
    return array.scaled(*_corners(array, start, stop), lines, limits) if isinstance(array, Packed) else None


def _corners(packed: Packed, start: Sequence[int], stop: Sequence[int]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    leading = packed.ndim - len(start)
    return (*[0] * leading, *start), (*packed.shape[:leading], *stop)


def _blosc2() -> Any:
    """The library, only where there are volumes: it takes a moment to import, and numexpr tells its threads then."""
    logging.getLogger("numexpr").setLevel(logging.WARNING)
    import blosc2

    return blosc2


def _at_most(lengths: Sequence[int], shape: Sequence[int]) -> tuple[int, ...]:
    return tuple(min(most, length) for most, length in zip(lengths, shape[-3:], strict=True))
