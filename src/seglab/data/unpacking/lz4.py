"""Blocks of LZ4, unpacked into an array; source: the format of LZ4 blocks."""

from typing import Any

from llvmlite import ir
from numba import types, uint64
from numba.extending import intrinsic

from seglab.data.compiled import compiled

SPARE = 32
"""Bytes that copies may read or write beyond their end."""

LONGER, FULL = 15, 255
"""Length in the half of a byte that says that further bytes add to it; such a byte, when one more follows."""

SHORTEST = 4
"""Bytes that are repeated at least."""


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
