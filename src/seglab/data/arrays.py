"""How the arrays of a prepared case lie on disk: mapped into memory, whole or in small compressed blocks.

Photos and rasters are plain .npy. Volumes are blosc2 arrays of int16 and uint8: a chunk is a slice or half of one, cut
into blocks that fit into the cache of a core, LZ4, the bytes of int16 shuffled before. A slice, some neighbouring
slices and a 3-D patch each unpack little more than they need, so one file serves 2-D, 2.5-D and 3-D training. A chunk
is unpacked by way of memory of its own size, and blosc2 looks at all of its blocks, wanted or not: from chunks of eight
slices a slice takes a quarter longer, from blocks of 128x128 a patch a fifth.

Two facts stand in the file and spare a quarter of the reading: what was added to 16-bit values before (see
`quiet_turnover`), and the box outside of which all values are 0, which is most of a mask.
"""

import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from operator import lt, sub
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

CHUNKS = {1: (1, 512, 512), 2: (1, 256, 512)}
BLOCKS = {1: (1, 128, 256), 2: (1, 64, 128)}
"""By bytes of a pixel, those of two for whatever has more. Masks hardly cost anything to unpack: theirs are larger."""
SUFFIXES = (".b2nd", ".npy")
N_COMPARED = 1 << 22
"""Values that tell which of them rarely neighbour each other."""

META = "seglab"
"""Where a blosc2 file holds what `Packed` takes."""

Stored = Any
"""A mapped array: numpy's or `Packed`, which are indexed alike and give numpy arrays."""


@dataclass(frozen=True)
class Packed:
    """A blosc2 array that something was added to when it was written; what is indexed has it taken off again.

    Args:
        packed: as blosc2 opens it.
        added: to each value.
        corners: of the box outside of which all values are 0, first and last along each axis; a liver takes a tenth of
            its mask, and what lies around it need not be unpacked.
    """

    packed: Any
    added: int
    corners: tuple[tuple[int, ...], tuple[int, ...]]

    @cached_property
    def shape(self) -> tuple[int, ...]:
        """Of the array."""
        return tuple(self.packed.shape)

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.shape)

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of the values."""
        dtype: np.dtype[Any] = self.packed.dtype
        return dtype

    def __getitem__(self, place: Any) -> NDArray[Any]:
        """What numpy's array would give."""
        read: NDArray[Any] = self.packed[place]
        return without(read, self.added)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        """All of it, for numpy's own functions."""
        return np.asarray(self[:], dtype)

    def box(self, first: tuple[int, ...], last: tuple[int, ...]) -> NDArray[Any]:
        """Values from one corner to another as they are stored; blosc2's own indexing takes twice as long."""
        start, stop = tuple(map(max, first, self.corners[0])), tuple(map(min, last, self.corners[1]))
        if start == first and stop == last:
            return self._unpack(start, stop)
        values = np.full(tuple(map(sub, last, first)), self.added, self.packed.dtype)
        if all(map(lt, start, stop)):
            inner = map(slice, map(sub, start, first), map(sub, stop, first))
            values[tuple(inner)] = self._unpack(start, stop)
        return values

    def _unpack(self, first: tuple[int, ...], last: tuple[int, ...]) -> NDArray[Any]:
        read: NDArray[Any] = np.empty(tuple(map(sub, last, first)), self.packed.dtype)
        return self.packed.get_slice_numpy(read, (first, last))  # type: ignore[no-any-return]


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
        size = min(array.itemsize, 2)
        shuffle = blosc2.Filter.NOFILTER if size == 1 else blosc2.Filter.SHUFFLE
        added = quiet_turnover(array) if array.dtype.kind in "iu" and array.itemsize == 2 else 0
        blosc2.asarray(
            np.add(array, array.dtype.type(added), order="C") if added else np.ascontiguousarray(array),
            urlpath=str(file),
            mode="w",
            chunks=(*leading, *_at_most(CHUNKS[size], array.shape)),
            blocks=(*leading, *_at_most(BLOCKS[size], array.shape)),
            cparams=blosc2.CParams(codec=blosc2.Codec.LZ4, clevel=1, filters=[shuffle], nthreads=1),
            meta={META: {"added": added, "corners": corners_of(array)}},
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
        array = blosc2.open(str(packed), mode="r", mmap_mode="r", dparams=blosc2.DParams(nthreads=1))
        facts = array.schunk.meta[META]
        first, last = map(tuple, facts["corners"])
        return Packed(array, facts["added"], (first, last))
    return np.load(plain, mmap_mode="r", allow_pickle=False)


def read_box(array: Stored, start: Sequence[int], stop: Sequence[int]) -> NDArray[Any]:
    """A box of an array, the leading axes whole.

    Args:
        array: from `open_array`.
        start: first index along each of the last axes, not negative.
        stop: end along each of them, within the array.
    """
    return without(read_stored(array, start, stop), added_to(array))


def read_stored(array: Stored, start: Sequence[int], stop: Sequence[int]) -> NDArray[Any]:
    """The same as it is stored: whoever multiplies and adds anyway takes `added_to` off on the way, at no cost."""
    if isinstance(array, np.ndarray):
        place: tuple[Any, ...] = (..., *map(slice, start, stop))
        box: NDArray[Any] = array[place]
        return box
    packed: Packed = array
    leading = packed.ndim - len(start)
    return packed.box((*[0] * leading, *start), (*packed.shape[:leading], *stop))


def without(read: NDArray[Any], added: int) -> NDArray[Any]:
    """Values that were read from a packed array, with what was added to them taken off in place."""
    if added:
        read -= read.dtype.type(added)
    return read


def added_to(array: Stored) -> int:
    """What was added to the values of an array from `open_array`."""
    return array.added if isinstance(array, Packed) else 0


def corners_of(array: NDArray[Any]) -> tuple[list[int], list[int]]:
    """First and last corner of the smallest box outside of which all values are 0."""
    others = [tuple(other for other in range(array.ndim) if other != axis) for axis in range(array.ndim)]
    used = [np.flatnonzero(array.any(axis=axes)) for axes in others]
    return [int(each[0]) if each.size else 0 for each in used], [int(each[-1]) + 1 if each.size else 0 for each in used]


def quiet_turnover(array: NDArray[Any]) -> int:
    """What to add to 16-bit values so that their upper byte changes as seldom as possible from pixel to pixel.

    The bytes of a block are packed apart, the upper ones as runs. Where noise carries values across a multiple of 256
    and back the runs are short: unpacking a CT, whose soft tissue lies just above 0 HU, takes a tenth longer, a phantom
    with more noise half as long again.

    Args:
        array: (..., H, W) of two-byte whole numbers.

    Returns:
        0 to 255; 0 where more would not fit into the type.
    """
    some = array[..., :: max(1, array.size // N_COMPARED), :].astype(np.int32)  # some rows
    low, lowest = np.minimum(some[..., 1:], some[..., :-1]), some.min()
    high = np.maximum(some[..., 1:], some[..., :-1])
    n = int(some.max() - lowest) + 1
    begins, ends = (np.bincount((side - lowest).ravel(), minlength=n) for side in (low, high))
    crossings = np.cumsum(begins - ends)  # pairs of neighbours on either side of the step from each value to the next
    seen = np.bincount((np.arange(n) + lowest + 1) % 256, weights=crossings, minlength=256)
    added = -int(seen.argmin()) % 256
    return added if int(array.max()) + added <= np.iinfo(array.dtype).max else 0


def _blosc2() -> Any:
    """The library, only where there are volumes: it takes a moment to import, and numexpr tells its threads then."""
    logging.getLogger("numexpr").setLevel(logging.WARNING)
    import blosc2

    return blosc2


def _at_most(lengths: Sequence[int], shape: Sequence[int]) -> tuple[int, ...]:
    return tuple(min(most, length) for most, length in zip(lengths, shape[-3:], strict=True))
