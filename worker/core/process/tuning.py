"""How much of the memory that is freed a process keeps for itself.

glibc gives every thread that allocates a heap of its own, and with the first large block that is
freed it begins to take blocks of that size from a heap, too. Bodies of a megabyte then lie between
small objects, and what is freed stays with the process: the longer the walk, the more of it.
"""

import ctypes
from typing import Final

_M_TRIM_THRESHOLD: Final = -1
_M_MMAP_THRESHOLD: Final = -3
_M_ARENA_MAX: Final = -8
"""As malloc.h of glibc numbers them: https://man7.org/linux/man-pages/man3/mallopt.3.html"""

ARENA_MAX: Final = 1
"""More would spare threads waiting for each other, but they wait for the interpreter anyway."""
MMAP_THRESHOLD_BYTES: Final = 1024 * 1024
"""Bytes from which a block is mapped by itself, and goes back to the system when it is freed.

With less, what is mapped anew for each page costs time (measured: 3 % at 128 kB).
"""
TRIM_THRESHOLD_BYTES: Final = 4 * 1024 * 1024
"""Bytes that are kept at the end of a heap, since the next page will want them."""


def tune_malloc() -> bool:
    """Say so to the C library, for this process; whether there is one that can be told."""
    library = ctypes.CDLL(None)
    if not hasattr(library, "gnu_get_libc_version"):
        return False
    wanted = {
        _M_ARENA_MAX: ARENA_MAX,
        _M_MMAP_THRESHOLD: MMAP_THRESHOLD_BYTES,
        _M_TRIM_THRESHOLD: TRIM_THRESHOLD_BYTES,
    }
    told = [library.mallopt(option, value) == 1 for option, value in wanted.items()]
    return all(told)


GC_THRESHOLD = 10_000
"""Objects made until Python looks for garbage in circles; a page makes thousands and no circle."""

SWITCH_INTERVAL_SECONDS = 0.0002
"""How long the interpreter lets a thread run on while another wants to.

Decoding keeps the processor busy beside the loader, which comes back from Postgres dozens of times
a page; with Python's default of 5 ms it would wait that long each time (measured: a fifth of a
first load).
"""
