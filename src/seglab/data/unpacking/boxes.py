"""A box of an array: its blocks unpacked, clipped and scaled, each where it belongs."""

from typing import Any

import numpy as np
from numba import types, uint16, uint64
from numba.extending import intrinsic

from seglab.data.compiled import compiled
from seglab.data.unpacking.chunks import ALIKE, WRITTEN, unpack_block
from seglab.data.unpacking.lz4 import SPARE


def rounded_once(_: Any, value: Any, scale: Any, shift: Any) -> Any:
    """Type and machine code of value * scale + shift in float32, with one rounding, as torch has it where AVX2 is."""

    def _generate(_: Any, builder: Any, __: Any, arguments: Any) -> Any:
        return builder.fma(*arguments)

    return types.float32(value, scale, shift), _generate


multiply_add: Any = intrinsic(rounded_once)


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
