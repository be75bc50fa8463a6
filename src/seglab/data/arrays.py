"""How the arrays of a prepared case lie on disk: mapped into memory, whole or in small compressed blocks.

Photos and rasters are plain .npy. Volumes are blosc2 arrays: chunks of eight whole slices, blocks of 128x128 pixels of
one slice, LZ4. A slice, some neighbouring slices and a 3-D patch each unpack little more than they need, so one file
serves 2-D, 2.5-D and 3-D training. CT within its window is kept as nine bits (nine_bits.py), other int16 as it is, its
bytes shuffled before.
"""

import logging
import os
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from seglab.data.nine_bits import NineBits, base_of, planes_of

CHUNK = (8, 512, 512)
BLOCK = (1, 128, 128)
BIT_BLOCK = (2, 128, 32)
"""Of ninth bits: 256 pixels wide, as each block takes a moment, however little it holds."""

NINTH = "-ninth"
"""What the name of the file of ninth bits has more."""

SUFFIXES = (".b2nd", ".npy")

Stored = Any
"""A mapped array: numpy's, blosc2's or NineBits, which are indexed alike and give numpy arrays."""


def write_array(stem: Path, array: NDArray[Any], *, compress: bool) -> None:
    """Write an array beside `stem`, with the ending of its layout, and force it to disk.

    Args:
        stem: path without ending.
        array: any shape; the last three axes are (D, H, W) where it is compressed.
        compress: as a blosc2 array, else as .npy.

    Raises:
        OSError: the disk is full or cannot be written.
    """
    if not compress:
        file = stem.with_name(stem.name + SUFFIXES[1])
        np.save(file, np.ascontiguousarray(array))
        _sync(file)
        return
    base = base_of(array)
    if base is None:
        _pack(stem, array)
        return
    low, ninth = planes_of(array, base)
    _pack(stem.with_name(stem.name + NINTH), ninth, BIT_BLOCK)
    _pack(stem, low, meta={"base": base, "dtype": array.dtype.str})


@lru_cache(maxsize=256)  # each keeps a file descriptor or two, of which a process may have 1024
def open_array(folder: str, name: str) -> Stored:
    """Map what `write_array` has written; what is indexed is read, nothing else.

    Args:
        folder: of the file; text, as a path takes as long to look up as a slice to read.
        name: of the file, without ending.
    """
    packed, plain = (Path(folder, name + suffix) for suffix in SUFFIXES)
    if packed.is_file():
        array = _open(packed)
        meta = array.schunk.vlmeta
        if "base" not in meta:
            return array
        ninth = _open(packed.with_name(f"{name}{NINTH}{SUFFIXES[0]}"))
        return NineBits(array, ninth, meta["base"], meta["dtype"])
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
    if isinstance(array, NineBits):
        return array.box(first, last)
    read: NDArray[Any] = np.empty([b - a for a, b in zip(first, last, strict=True)], array.dtype)
    return array.get_slice_numpy(read, (first, last))  # type: ignore[no-any-return]


def _pack(
    stem: Path, array: NDArray[Any], block: tuple[int, int, int] = BLOCK, meta: Mapping[str, int | str] | None = None
) -> None:
    blosc2, leading = _blosc2(), (1,) * (array.ndim - 3)
    shuffle = blosc2.Filter.NOFILTER if array.itemsize == 1 else blosc2.Filter.SHUFFLE
    file = stem.with_name(stem.name + SUFFIXES[0])
    stored = blosc2.asarray(
        np.ascontiguousarray(array),
        urlpath=str(file),
        mode="w",
        chunks=(*leading, *_at_most(CHUNK, array.shape)),
        blocks=(*leading, *_at_most(block, array.shape)),
        cparams=blosc2.CParams(codec=blosc2.Codec.LZ4, clevel=1, filters=[shuffle], nthreads=1),
    )
    for name, value in (meta or {}).items():
        stored.schunk.vlmeta[name] = value
    _sync(file)


def _open(file: Path) -> Any:
    blosc2 = _blosc2()
    return blosc2.open(str(file), mode="r", mmap_mode="r", dparams=blosc2.DParams(nthreads=1))


def _sync(file: Path) -> None:
    with file.open("rb") as stream:
        os.fsync(stream.fileno())


def _blosc2() -> Any:
    """The library, only where there are volumes: it takes a moment to import, and numexpr tells its threads then."""
    logging.getLogger("numexpr").setLevel(logging.WARNING)
    import blosc2

    return blosc2


def _at_most(lengths: Sequence[int], shape: Sequence[int]) -> tuple[int, ...]:
    return tuple(min(most, length) for most, length in zip(lengths, shape[-3:], strict=True))
