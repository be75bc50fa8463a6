"""Integers of nine bits, as CT within a window has them: a plane of bytes and one of single bits, eight to a byte.

As int16 the high byte of a CT says no more than whether a value is below 0 HU, but takes LZ4 twice as long as the low
byte: it changes every few pixels, and LZ4 knows runs of bytes only. As single bits it is hardly worth packing, and a
real CT is read in little more than half the time, from 0.9 of the room.
"""

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

PAGE = 256
"""Values that the low byte tells apart."""


class NineBits:
    """An array of 16-bit integers over its two planes; indexed like numpy's.

    Args:
        low: (..., W) uint8, from blosc2.
        ninth: (..., W / 8) uint8, from blosc2, the first pixel in the highest bit.
        base: value of an empty pixel.
        dtype: of the values.
    """

    def __init__(self, low: Any, ninth: Any, base: int, dtype: str) -> None:
        self.low, self.ninth, self.base, self.dtype = low, ninth, base, np.dtype(dtype)
        self.shape: tuple[int, ...] = tuple(low.shape)
        self.ndim = len(self.shape)

    def __len__(self) -> int:
        return self.shape[0]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        """All of it, always a copy."""
        return np.asarray(self.box([0] * self.ndim, self.shape), dtype)

    def __getitem__(self, key: Any) -> Any:
        """What numpy would give; whole numbers and slices without a step read nothing else."""
        keys = key if isinstance(key, tuple) else (key,)
        if len(keys) > self.ndim or not all(map(_is_plain, keys)):
            return np.asarray(self)[key]
        found = [range(length)[one] for one, length in zip(keys, self.shape, strict=False)]
        spans = [(one.start, max(one.start, one.stop)) if isinstance(one, range) else (one, one + 1) for one in found]
        spans += [(0, length) for length in self.shape[len(keys) :]]
        box = self.box(*zip(*spans, strict=True))
        return box[tuple(slice(None) if isinstance(one, range) else 0 for one in found)]

    def box(self, start: Sequence[int], stop: Sequence[int]) -> NDArray[Any]:
        """A box, all axes given: memory of its own.

        Args:
            start: first index along each axis, not negative.
            stop: end along each axis, within the array.
        """
        shape = [last - first for first, last in zip(start, stop, strict=True)]
        if 0 in shape:
            return np.empty(shape, self.dtype)
        width, left, right = shape[-1], start[-1] // 8, -(-stop[-1] // 8)
        low = np.empty(shape, np.uint8)
        self.low.get_slice_numpy(low, (tuple(start), tuple(stop)))
        packed = np.empty((*shape[:-1], right - left), np.uint8)
        self.ninth.get_slice_numpy(packed, ((*start[:-1], left), (*stop[:-1], right)))
        skipped = start[-1] - 8 * left
        bits = np.unpackbits(packed.reshape(-1)).reshape(-1, 8 * (right - left))[:, skipped : skipped + width]
        both = np.empty((*shape, 2), np.uint8)
        cv2.merge([low.reshape(-1, width), bits], dst=both.reshape(-1, width, 2))
        values = both.view("<i2")[..., 0]
        values += np.int16(self.base)
        return values.view(self.dtype)


def base_of(array: NDArray[Any]) -> int | None:
    """The value that a pixel counts from where nine bits are enough, else None.

    A multiple of 256 where possible: the ninth bit of CT then changes at 0 HU, between fat and soft tissue, and not
    within the tissue.
    """
    if array.dtype not in (np.int16, np.uint16) or not array.size:
        return None
    low, high = int(array.min()), int(array.max())
    for base in (low // PAGE * PAGE, low):
        if high - base < 2 * PAGE and base <= np.iinfo(np.int16).max:
            return base
    return None


def planes_of(array: NDArray[Any], base: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Low bytes and packed ninth bits of values counted from `base`."""
    counted = (array.view(np.int16) - np.int16(base)).view(np.uint16)
    return counted.astype(np.uint8), np.packbits(counted >= PAGE, axis=-1)


def _is_plain(key: Any) -> bool:
    if isinstance(key, slice):
        return key.step in (None, 1)
    return isinstance(key, int | np.integer) and not isinstance(key, bool | np.bool_)
