"""Unpacks boxes of 8- and 16-bit blosc2 arrays, twice to three times as fast as blosc2, and normalises on the way.

blosc2 unpacks into memory of a chunk, copies what is wanted into an array of its own type, and takes 2 us for each
block; what is read then still has to become float32. Here the two bytes of a value go from the unpacked block to the
normalised value that is handed on, and nothing is unpacked behind the last row that is wanted.

Read are files as `seglab.data.arrays` writes them: LZ4, shuffled bytes, the last two axes cut into blocks. Whatever
else a file holds is left to blosc2: the functions say so instead of guessing. No byte outside of the file or of the
memory at hand is touched, whatever the file holds.

All of it stands in one file, as machine code is kept on disk until the file of the function that is called changes.

Sources: Blosc2's README_CFRAME_FORMAT, README_CHUNK_FORMAT and the format of LZ4 blocks.
"""

from pathlib import Path
from typing import Any

import blosc2
import numpy as np
from llvmlite import ir
from numba import types, uint16, uint64
from numba.extending import intrinsic
from numpy.typing import NDArray

from seglab.data.compiled import compiled

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

SPARE = 32
"""Bytes that copies may read or write beyond their end."""

LONGER, FULL = 15, 255
"""Length in the half of a byte that says that further bytes add to it; such a byte, when one more follows."""

SHORTEST = 4
"""Bytes that are repeated at least."""


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


def copier(size: int) -> Any:
    """A function that copies so many bytes at once: (target, from where on, source, from where on)."""

    def _copy(_: Any, target: Any, to: Any, source: Any, at: Any) -> Any:
        def _generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            vector = ir.VectorType(ir.IntType(8), size).as_pointer()
            places = []
            for array, index in ((0, 1), (2, 3)):
                data = context.make_array(signature.args[array])(context, builder, arguments[array]).data
                places.append(builder.bitcast(builder.gep(data, [arguments[index]]), vector))
            value = builder.load(places[1])
            value.align = 1
            builder.store(value, places[0]).align = 1
            return context.get_dummy_value()

        return types.void(target, to, source, at), _generate

    return intrinsic(_copy)


copy_8, copy_16, copy_32 = copier(8), copier(16), copier(32)


def rounded_once(_: Any, value: Any, scale: Any, shift: Any) -> Any:
    """Type and machine code of value * scale + shift in float32, with one rounding, as torch has it where AVX2 is."""

    def _generate(_: Any, builder: Any, __: Any, arguments: Any) -> Any:
        return builder.fma(*arguments)

    return types.float32(value, scale, shift), _generate


multiply_add: Any = intrinsic(rounded_once)


@compiled
def number(frame: Any, at: Any) -> Any:
    """Four bytes, the lowest first, with sign."""
    value = np.int64(0)
    for index in range(NUMBER):
        value |= np.int64(frame[at + index]) << (8 * index)
    return value - (1 << 32) if value >> 31 else value


@compiled
def unpack_lz4(packed: Any, at: Any, end: Any, target: Any, begin: Any, stop: Any, enough: Any) -> Any:
    """Unpack a block of LZ4, from `at` to `end`, to `begin` and on, at least to `enough`; all places are uint64.

    Nothing but spare bytes is written beyond `stop`. Returns where it stopped, or 0 when the block makes no sense.
    """
    to = begin
    while at < end:
        token = packed[at]
        at += uint64(1)
        n = uint64(token >> 4)
        if n == LONGER:
            while at < end:
                more = packed[at]
                at += uint64(1)
                n += uint64(more)
                if more != FULL:
                    break
            if at + n > end or to + n > stop:
                return uint64(0)
            done = uint64(0)
            while done < n:
                copy_32(target, to + done, packed, at + done)
                done += uint64(32)
        elif at + n > end or to + n > stop:
            return uint64(0)
        else:
            copy_16(target, to, packed, at)
        at += n
        to += n
        if at >= end or to >= enough:
            return to
        back = uint64(packed[at]) | uint64(packed[at + uint64(1)]) << uint64(8)
        at += uint64(2)
        n = uint64(token & 15)
        is_longer = n == LONGER
        while is_longer and at < end:
            more = packed[at]
            at += uint64(1)
            n += uint64(more)
            is_longer = more == FULL
        n += uint64(SHORTEST)
        if back == uint64(0) or to - begin < back or to + n > stop:
            return uint64(0)
        repeat(target, to, back, n)
        to += n
    return to


@compiled
def repeat(target: Any, to: Any, back: Any, n: Any) -> None:
    """Write `n` bytes that stand `back` bytes before, which may be fewer than `n`: then they are repeated."""
    done = uint64(0)
    if n <= uint64(24) and back >= uint64(8):
        copy_8(target, to, target, to - back)
        copy_8(target, to + uint64(8), target, to + uint64(8) - back)
        copy_8(target, to + uint64(16), target, to + uint64(16) - back)
    elif back == uint64(1):
        fill(target[to : to + n], target[to - uint64(1)])
    else:
        period = back
        while period < uint64(16):
            period += back
        if back < uint64(16):
            while done < min(period, n):
                target[to + done] = target[to + done - back]
                done += uint64(1)
        while done < n:
            copy_16(target, to + done, target, to + done - period)
            done += uint64(16)


@compiled
def fill(target: Any, value: Any) -> None:
    """One value everywhere."""
    for index in range(target.size):
        target[index] = value


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


@compiled
def scaled(lower: Any, upper: Any, coding: Any, line: Any) -> Any:
    """From the two bytes of a value to the normalised one; for the arguments see `unpack_box`."""
    _, sign, less, low, high = coding
    stored = uint16((uint16(lower) | uint16(upper) << 8) ^ sign)
    value = np.float32(stored) - less
    value = low if value < low else value
    value = high if value > high else value
    return multiply_add(value, line[0], line[1])


@compiled
def scale_rows(bytes_: Any, begin: Any, upper: Any, n: Any, coding: Any, line: Any, values: Any, to: Any) -> None:
    """Write a part of a block, whose first value is at `begin` in its bytes and goes to `to`, both uint64.

    `n` are the rows, pixels of each, bytes from row to row, and values from row to row, all uint64.
    """
    for _ in range(n[0]):
        for index in range(n[1]):
            values[to + index] = scaled(bytes_[begin + index], bytes_[begin + index + upper], coding, line)
        begin += n[2]
        to += n[3]


@compiled
def fill_rows(value: Any, n: Any, values: Any, to: Any) -> None:
    """Write a block of one value, see `scale_rows`."""
    for _ in range(n[0]):
        for index in range(n[1]):
            values[to + index] = value
        to += n[3]


@compiled
def unpack_box(
    frame: Any, places: Any, shape: Any, chunk: Any, block: Any, first: Any, coding: Any, lines: Any, values: Any
) -> bool:
    """Fill `values` with a box of an array; False when blosc2 has to do it.

    Args:
        frame: the file, from `chunk_places`.
        places: of its chunks, as many as the shape makes.
        shape: of the array, (C, D, H, W).
        chunk: its height and width.
        block: its height and width.
        first: corner of the box, (z, y, x); the channels are read whole.
        coding: bytes of a value, 1 or 2; the bit of its sign, 0 where it has none (uint16); what is taken off when that
            bit is turned over; lower and upper clip value (float32).
        lines: factor and summand of each channel, (C, 2) float32.
        values: float32, or what the result fits into, (C, *box).
    """
    height, width = block
    n_rows, n_columns = -(-chunk[0] // height), -(-chunk[1] // width)
    down, across = -(-shape[2] // chunk[0]), -(-shape[3] // chunk[1])
    upper = height * width + SPARE
    bytes_ = np.zeros(2 * upper, np.uint8)
    flat, n_y, n_x = values.reshape(-1), values.shape[2], values.shape[3]
    end_y, end_x = first[1] + n_y, first[2] + n_x
    is_within = min(first) >= 0 and first[0] <= shape[1] - values.shape[1]
    is_within = is_within and first[1] <= shape[2] - n_y and first[2] <= shape[3] - n_x
    if not is_within or not values.shape[0] == len(lines) == shape[0]:
        return False
    for plane in range(values.shape[0] * values.shape[1]):
        c, z = plane // values.shape[1], plane % values.shape[1]
        line = lines[c, 0], lines[c, 1]
        for row in range(first[1] // height, (end_y - 1) // height + 1):
            y, stop_y = max(first[1], row * height), min(end_y, row * height + height)
            enough = (stop_y - row * height) * width
            for column in range(first[2] // width, (end_x - 1) // width + 1):
                x, stop_x = max(first[2], column * width), min(end_x, column * width + width)
                chunk_index = ((c * shape[1] + first[0] + z) * down + row // n_rows) * across + column // n_columns
                block_index = row % n_rows * n_columns + column % n_columns
                found = unpack_block(frame, places[chunk_index], block_index, coding[0], bytes_, upper, enough)
                to = uint64((plane * n_y + y - first[1]) * n_x + x - first[2])
                n = (uint64(stop_y - y), uint64(stop_x - x), uint64(width), uint64(n_x))
                if found == ALIKE:
                    fill_rows(scaled(bytes_[0], bytes_[upper], coding, line), n, flat, to)
                elif found == WRITTEN:
                    begin = uint64((y - row * height) * width + x - column * width)
                    scale_rows(bytes_, begin, uint64(upper), n, coding, line, flat, to)
                else:
                    return False
    return True
