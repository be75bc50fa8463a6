"""What the C library does with memory that is freed: between two samples it had better keep it."""

import ctypes
import platform

TRIM, MAPPED = -1, -3
"""M_TRIM_THRESHOLD and M_MMAP_THRESHOLD of glibc's malloc.h."""

KEPT = 256 << 20
LARGEST = 32 << 20
"""Bytes; larger blocks always go back. glibc takes no more than this."""


def keep_freed_memory(worker: int = 0) -> None:
    """Keep up to 256 MiB of freed memory in this process for what it asks for next; only glibc is told.

    A sample takes a few megabytes several times over and gives them back. glibc by itself may return them to the system
    each time, which then clears every page anew: of a five-slice sample that was half of its time.

    Args:
        worker: number of the loader's process, which changes nothing.
    """
    if platform.libc_ver()[0] == "glibc":
        library = ctypes.CDLL(None)
        library.mallopt(MAPPED, LARGEST)
        library.mallopt(TRIM, KEPT)
