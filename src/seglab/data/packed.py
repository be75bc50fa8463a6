"""Volumes as they lie on disk in compressed blocks: what is indexed is unpacked, and nothing else."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property, lru_cache
from math import prod
from operator import sub
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from seglab.errors import DataError

NO_LIMITS = (-np.inf, np.inf)
MOST_BYTES = 2
"""Of a value that is unpacked here; larger ones are left to blosc2."""


@dataclass(frozen=True)
class Packed:
    """A blosc2 array whose boxes are read twice to three times as fast as by blosc2 alone.

    Args:
        file: that holds it.
        packed: as blosc2 opens it.
    """

    file: Path
    packed: Any

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
        with reading(self.file):
            read: NDArray[Any] = self.packed[place]
        return read

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        """All of it, for numpy's own functions."""
        return np.asarray(self[:], dtype)

    def box(self, first: tuple[int, ...], last: tuple[int, ...]) -> NDArray[Any]:
        """Values from one corner to another."""
        values: NDArray[Any] = np.empty(tuple(map(sub, last, first)), self.dtype)
        if not self._fill(values, first, unchanged(1 if self.ndim == 3 else len(values)), NO_LIMITS):
            with reading(self.file):
                self.packed.get_slice_numpy(values, (first, last))
        return values

    def scaled(
        self,
        first: tuple[int, ...],
        last: tuple[int, ...],
        lines: NDArray[np.float32],
        limits: tuple[float, float] = NO_LIMITS,
    ) -> NDArray[np.float32] | None:
        """Values from one corner to another, clipped, times a factor plus a summand.

        Args:
            first: of a box, (c, z, y, x); all channels are read.
            last: of it.
            lines: factor and summand of each channel, (C, 2).
            limits: lower and upper clip value.

        Returns:
            None where only blosc2 can unpack it, see `seglab.data.unpacking`.
        """
        values = np.empty(tuple(map(sub, last, first)), np.float32)
        return values if self._fill(values, first, lines, limits) else None

    def _fill(
        self, values: NDArray[Any], first: tuple[int, ...], lines: NDArray[np.float32], limits: tuple[float, float]
    ) -> bool:
        """Unpack a box without blosc2; False where that is not possible."""
        if self._mapped is None:
            return False
        from seglab.data.unpacking.boxes import unpack_box

        n_bytes = self.dtype.itemsize
        sign = 1 << (8 * n_bytes - 1) if self.dtype.kind == "i" else 0
        coding = n_bytes, np.uint16(sign), np.float32(sign), *map(np.float32, limits)
        corner, box = tuple(map(int, first[-3:])), values[None] if self.ndim == 3 else values
        frame, places, shape, chunk, block = self._mapped
        return unpack_box(frame, places, shape, chunk, block, corner, coding, lines, box)

    @cached_property
    def _mapped(self) -> Any:
        """The file, the places of its chunks, and how the array is cut, as `unpack_box` takes them; or None."""
        (*thick, height, width), block = self.packed.chunks, self.packed.blocks[-2:]
        is_small = self.dtype.kind in "iu" and self.dtype.itemsize <= MOST_BYTES and self.dtype.isnative
        if not is_small or self.ndim not in (3, 4) or max(thick) > 1:
            return None
        sides = zip((height, width), block, self.shape[-2:], strict=True)
        if any(chunk < length and chunk % side for chunk, side, length in sides):  # its last blocks are narrower
            return None
        from seglab.data.compiled import IS_ON

        if not IS_ON:
            return None
        from seglab.data.unpacking.chunks import chunk_places

        with reading(self.file):
            frame, places = chunk_places(self.file)
        n_chunks = prod(-(-length // chunk) for length, chunk in zip(self.shape, self.packed.chunks, strict=True))
        return (frame, places, (1, *self.shape)[-4:], (height, width), block) if places.size == n_chunks else None


@contextmanager
def reading(file: Path) -> Iterator[None]:
    """Tell of a damaged file what to do about it.

    Raises:
        DataError: what was raised within.
    """
    try:
        yield
    except (OSError, EOFError, ValueError, RuntimeError) as error:
        raise DataError(
            "the prepared data of a case is damaged",
            given=f"{file}: {error}",
            allowed="files as they were written",
            fix=f"delete the folder {file.parent} and start again: the case is prepared anew",
        ) from error


@lru_cache(maxsize=16)
def unchanged(n_channels: int) -> NDArray[np.float32]:
    """Factor 1 and summand 0 for each channel."""
    return np.array([(1, 0)] * n_channels, np.float32)
