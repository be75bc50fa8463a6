"""Plain loops over arrays as machine code: compiled by numba at their first call, and kept on disk for the next."""

import hashlib
import inspect
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, TypeVar, cast

from numba import config, njit
from numba.core.caching import FunctionCache, IndexDataCacheFile

Loop = TypeVar("Loop", bound=Callable[..., object])

IS_ON = not config.DISABLE_JIT  # type: ignore[attr-defined]
"""False with NUMBA_DISABLE_JIT=1, for debuggers: the loops then are Python's, which knows no intrinsics of numba."""


class Kept(FunctionCache):
    """Machine code on disk that never stops a program: in place of a damaged file, or without room, it is compiled.

    It belongs to the contents of all files of the function's folder, as it holds the loops and constants that they take
    from each other, while numba looks at the function's own file. The hash of them stands in the names of what is kept,
    so old machine code is never found in place of new.
    """

    def __init__(self, loop: Callable[..., object]) -> None:
        super().__init__(loop)  # type: ignore[no-untyped-call]
        stamp = version_of(Path(inspect.getfile(loop)).parent)
        name = f"{self._impl.filename_base}.{stamp}"
        self._cache_file = IndexDataCacheFile(self._cache_path, name, stamp)  # type: ignore[no-untyped-call]

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


@cache
def version_of(folder: Path) -> str:
    """Of the compiled loops of a folder: a hash of its files, and of this one."""
    files = [Path(__file__), *sorted(folder.glob("*.py"))]
    return hashlib.sha256(b"\0".join(file.read_bytes() for file in files)).hexdigest()[:16]


def compiled(loop: Loop) -> Loop:
    """Compile a function for the processor at hand; its machine code lies beside its file or in the user's cache.

    Where neither folder can be written to, every process compiles anew, which takes some seconds. A loop calls loops of
    files in its own folder only.
    """
    machine_code = njit(loop, nogil=True)
    with suppress(RuntimeError):  # "no locator available": there is no folder to keep it in
        machine_code._cache = Kept(loop)
    return cast("Loop", machine_code)
