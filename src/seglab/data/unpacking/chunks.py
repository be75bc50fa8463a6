"""Chunks of a blosc2 file: where they lie, and their blocks unpacked.

Sources: Blosc2's README_CFRAME_FORMAT and README_CHUNK_FORMAT.
"""

from pathlib import Path
from typing import Any

import blosc2
import numpy as np
from numba import uint64
from numpy.typing import NDArray

from seglab.data.compiled import compiled
from seglab.data.unpacking.lz4 import FULL, SPARE, fill, unpack_lz4

LZ4_SPLIT = 37
"""Flags of a chunk that is packed by LZ4, each byte of a value in a stream of its own."""

SHUFFLED = 1
"""The filter that puts the bytes apart."""

ONLY_ZEROS = -127
"""Highest byte, as a signed number, of what stands for the place of a chunk of zeros."""

ZEROS, UNKNOWN = -1, -2
"""In place of the place of a chunk."""

WRITTEN, ALIKE = 0, 1

HEADER, NUMBER = 32, 4
"""Bytes before the places of the blocks of a chunk, and of each such place."""


def chunk_places(file: Path) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Map a file; its bytes, and where each of its chunks begins: `ZEROS` where there are only zeros instead.

    Raises:
        ValueError, RuntimeError: no blosc2 file.
    """
    frame: NDArray[np.uint8] = np.asarray(np.memmap(file, np.uint8, mode="r"))
    first = int.from_bytes(frame[11:15].tobytes(), "big")
    index = first + int.from_bytes(frame[39:47].tobytes(), "big")
    length = int.from_bytes(frame[index + 12 : index + 16].tobytes(), "little")
    offsets = np.frombuffer(blosc2.decompress2(frame[index : index + length].tobytes()), np.int64)
    return frame, np.where(offsets < 0, np.where(offsets >> 56 == ONLY_ZEROS, ZEROS, UNKNOWN), first + offsets)


@compiled
def number(frame: Any, at: Any) -> Any:
    """Four bytes, the lowest first, with sign."""
    value = np.int64(0)
    for index in range(NUMBER):
        value |= np.int64(frame[at + index]) << (8 * index)
    return value - (1 << 32) if value >> 31 else value


@compiled
def copy(target: Any, source: Any) -> None:
    """Byte by byte, which the compiler turns into as many at once as the processor can."""
    for index in range(target.size):
        target[index] = source[index]


@compiled
def unpack_stream(frame: Any, at: Any, target: Any, begin: Any, size: Any, enough: Any) -> Any:
    """Unpack one byte of each value of a block, the first `enough` of `size`.

    Returns:
        Where the next stream begins, -1 for what makes no sense; and whether all are alike: only the first is written.
    """
    if at < 0 or at + NUMBER + SPARE > frame.size:
        return -1, False
    length, at = number(frame, at), at + NUMBER
    if length <= 0:  # 0, or the value that stands there as a negative number
        target[begin] = np.uint8(-length)
        return at + (length < 0) if length >= -FULL else -1, True
    if length > size or at + length + SPARE > frame.size:
        return -1, False
    if length == size:
        copy(target[begin : begin + enough], frame[at : at + enough])
        return at + length, False
    first, needed = uint64(begin), uint64(begin + enough)
    end = unpack_lz4(frame, uint64(at), uint64(at + length), target, first, uint64(begin + size), needed)
    return at + length if end >= needed else -1, False


@compiled
def is_known(frame: Any, chunk: Any, n_bytes: Any, size: Any) -> Any:
    """Whether a chunk is packed as `seglab.data.arrays` does it, values of `n_bytes` in blocks of `size`."""
    is_lz4 = frame[chunk + 2] == LZ4_SPLIT and frame[chunk + 31] == 0
    is_only_shuffled = number(frame, chunk + 16) == SHUFFLED and number(frame, chunk + 18) == 0  # six bytes of filters
    return is_lz4 and is_only_shuffled and frame[chunk + 3] == n_bytes and number(frame, chunk + 8) == size * n_bytes


@compiled
def unpack_block(frame: Any, chunk: Any, index: Any, n_bytes: Any, bytes_: Any, upper: Any, enough: Any) -> Any:
    """Unpack the first `enough` values of a block, lower bytes to the front and upper ones to `upper`.

    Returns:
        `WRITTEN`, `ALIKE` where only the first is written as all are alike, or `UNKNOWN`.
    """
    if chunk == ZEROS:
        bytes_[0] = bytes_[upper] = 0
        return ALIKE
    size = upper - SPARE
    is_inside = 0 <= chunk < frame.size and 0 <= index < (frame.size - chunk - HEADER) // NUMBER
    if not is_inside or not is_known(frame, chunk, n_bytes, size):
        return UNKNOWN
    at = chunk + number(frame, chunk + HEADER + NUMBER * index)
    at, is_alike = unpack_stream(frame, at, bytes_, 0, size, enough)
    if n_bytes == 1 or at < 0:
        return UNKNOWN if at < 0 else ALIKE if is_alike else WRITTEN
    at, is_also = unpack_stream(frame, at, bytes_, upper, size, enough)
    if is_also and not is_alike:
        fill(bytes_[upper : upper + enough], bytes_[upper])
    if is_alike and not is_also:
        fill(bytes_[:enough], bytes_[0])
    return UNKNOWN if at < 0 else ALIKE if is_alike and is_also else WRITTEN
