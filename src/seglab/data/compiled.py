"""Plain loops over arrays as machine code: compiled by numba at their first call, and kept on disk for the next."""

from collections.abc import Callable
from typing import TypeVar, cast

from numba import njit

Loop = TypeVar("Loop", bound=Callable[..., object])


def compiled(loop: Loop) -> Loop:
    """Compile a function for the processor at hand; its machine code lies beside its file or in the user's cache.

    Where neither folder can be written to, every process compiles anew, which takes some seconds.
    """
    try:
        return cast("Loop", njit(loop, cache=True, nogil=True))
    except RuntimeError:  # "no locator available": there is no folder to keep it in
        return cast("Loop", njit(loop, nogil=True))
