"""How the arrays of a prepared case lie on disk: mapped into memory, whole or in small compressed blocks.

Photos and rasters are plain .npy. Volumes are blosc2 arrays of int16 and uint8: a chunk is a slice, cut into blocks
that fit into the cache of a core, LZ4, the bytes of int16 shuffled before. A slice, some neighbouring slices and a 3-D
patch each unpack little more than they need, so one file serves 2-D, 2.5-D and 3-D training. A chunk is unpacked by way
of memory of its own size: from chunks of eight slices a slice takes a quarter longer, from blocks of 128x128 a patch.
"""

import logging
import os
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

CHUNK = (1, 512, 512)
BLOCKS = {1: (1, 128, 256), 2: (1, 64, 128)}
"""By bytes of a pixel. Masks hardly cost anything to unpack, so theirs are larger."""
SUFFIXES = (".b2nd", ".npy")

Stored = Any
"""A mapped array: numpy's or blosc2's, which are indexed alike and give numpy arrays."""


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
        shuffle = blosc2.Filter.NOFILTER if array.itemsize == 1 else blosc2.Filter.SHUFFLE
        blosc2.asarray(
            np.ascontiguousarray(array),
            urlpath=str(file),
            mode="w",
            chunks=(*leading, *_at_most(CHUNK, array.shape)),
            blocks=(*leading, *_at_most(BLOCKS.get(array.itemsize, BLOCKS[2]), array.shape)),
            cparams=blosc2.CParams(codec=blosc2.Codec.LZ4, clevel=1, filters=[shuffle], nthreads=1),
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
    """
    packed, plain = (Path(folder, name + suffix) for suffix in SUFFIXES)
    if packed.is_file():
        blosc2 = _blosc2()
        return blosc2.open(str(packed), mode="r", mmap_mode="r", dparams=blosc2.DParams(nthreads=1))
    return np.load(plain, mmap_mode="r", allow_pickle=False)


def read_box(array: Stored, start: Sequence[int], stop: Sequence[int]) -> NDArray[Any]:
    """A box of an array, the leading axes whole; blosc2 is asked directly, as its own indexing takes as long again.

    Args:
        array: from `open_array`.
        start: first index along each of the last axes, not negative.
        stop: end along each of them, within the array.
    """
    leading = array.ndim - len(start)
    if isinstance(array, np.ndarray):
        place: tuple[Any, ...] = (..., *map(slice, start, stop))
        box: NDArray[Any] = array[place]
        return box
    first, last = (*[0] * leading, *start), (*array.shape[:leading], *stop)
    read: NDArray[Any] = np.empty([b - a for a, b in zip(first, last, strict=True)], array.dtype)
    return array.get_slice_numpy(read, (first, last))  # type: ignore[no-any-return]


def _blosc2() -> Any:
    """The library, only where there are volumes: it takes a moment to import, and numexpr tells its threads then."""
    logging.getLogger("numexpr").setLevel(logging.WARNING)
    import blosc2

    return blosc2


def _at_most(lengths: Sequence[int], shape: Sequence[int]) -> tuple[int, ...]:
    return tuple(min(most, length) for most, length in zip(lengths, shape[-3:], strict=True))
