"""Tunes the C allocator, the garbage collector and the thread switch interval of a process.

glibc gives every allocating thread its own heap, and after the first large block is freed, it
allocates blocks of that size from a heap, too. Bodies of a megabyte then lie between small objects,
and freed memory stays with the process: the longer the walk, the more of it.
"""

import ctypes
from typing import Final

_M_TRIM_THRESHOLD: Final = -1
_M_MMAP_THRESHOLD: Final = -3
_M_ARENA_MAX: Final = -8
"""A constant of glibc's malloc.h. https://man7.org/linux/man-pages/man3/mallopt.3.html"""

ARENA_MAX: Final = 1
"""More would reduce contention, but the threads wait for the interpreter's lock anyway."""
MMAP_THRESHOLD_BYTES: Final = 1024 * 1024
"""Blocks of at least so many bytes are mapped separately and returned to the system when freed.

A lower value maps more blocks for each page, which costs time (measured: 3 % at 128 kB).
"""
TRIM_THRESHOLD_BYTES: Final = 4 * 1024 * 1024
"""Free bytes kept at the end of a heap, since the next page will need them."""


def tune_malloc() -> bool:
    """Apply these limits to this process. Returns whether the C library supports it."""
    library = ctypes.CDLL(None)
    if not hasattr(library, "gnu_get_libc_version"):
        return False
    wanted = {
        _M_ARENA_MAX: ARENA_MAX,
        _M_MMAP_THRESHOLD: MMAP_THRESHOLD_BYTES,
        _M_TRIM_THRESHOLD: TRIM_THRESHOLD_BYTES,
    }
    results = [library.mallopt(option, value) == 1 for option, value in wanted.items()]
    return all(results)


GC_THRESHOLD = 10_000
"""Allocations between two runs of the cycle collector; a page makes thousands and no cycle."""

SWITCH_INTERVAL_SECONDS = 0.0002
"""How long the interpreter lets a thread run while another one waits.

Decoding keeps the processor busy beside the loader thread, which returns from Postgres dozens of
times a page; with Python's default of 5 ms it would wait that long each time (measured: a fifth of
a first load).
"""
