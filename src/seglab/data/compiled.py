"""Plain loops over arrays as machine code: compiled by numba at their first call, and kept on disk for the next."""

from collections.abc import Callable
from contextlib import suppress
from pickle import UnpicklingError
from typing import Any, TypeVar, cast

from numba import config, njit
from numba.core.caching import FunctionCache

Loop = TypeVar("Loop", bound=Callable[..., object])

IS_ON = not config.DISABLE_JIT  # type: ignore[attr-defined]
"""False with NUMBA_DISABLE_JIT=1, for debuggers: the loops then are Python's, which knows no intrinsics of numba."""


class Kept(FunctionCache):
    """Machine code on disk that never stops a program: in place of a damaged file, or without room, it is compiled."""

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        """Machine code for some types of arguments, or None."""
        try:
            return super().load_overload(sig, target_context)  # type: ignore[no-untyped-call]
        except (OSError, EOFError, ValueError, UnpicklingError):  # cut off, as by a power failure
            with suppress(OSError):
                self.flush()  # type: ignore[no-untyped-call]
            return None

    def save_overload(self, sig: Any, data: Any) -> None:
        """Keep it."""
        with suppress(OSError):
            super().save_overload(sig, data)  # type: ignore[no-untyped-call]


def compiled(loop: Loop) -> Loop:
    """Compile a function for the processor at hand; its machine code lies beside its file or in the user's cache.

    Where neither folder can be written to, every process compiles anew, which takes some seconds. Kept is what belongs
    to the function's own file: who changes a loop that another file calls types `make clean`.
    """
    machine_code = njit(loop, nogil=True)
    with suppress(RuntimeError):  # "no locator available": there is no folder to keep it in
        machine_code._cache = Kept(loop)  # type: ignore[no-untyped-call]
    return cast("Loop", machine_code)
