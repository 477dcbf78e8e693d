"""How much of the memory that is freed a process keeps for itself.

glibc gives every thread that allocates a heap of its own, and with the first large block that is
freed it begins to take blocks of that size from a heap, too. Bodies of a megabyte then lie between
small objects, and what is freed stays with the process: the longer the walk, the more of it.
"""

import ctypes
from typing import Final

_TRIM_THRESHOLD: Final = -1
_MMAP_THRESHOLD: Final = -3
_ARENA_MAX: Final = -8
"""As malloc.h of glibc numbers them: https://man7.org/linux/man-pages/man3/mallopt.3.html"""

HEAPS: Final = 1
"""More would spare threads waiting for each other, but they wait for the interpreter anyway."""
LARGE: Final = 1024 * 1024
"""Bytes from which a block is mapped by itself, and goes back to the system when it is freed.

With less, what is mapped anew for each page costs time (measured: 3 % at 128 kB).
"""
SPARE: Final = 4 * 1024 * 1024
"""Bytes that are kept at the end of a heap, since the next page will want them."""


def give_back_what_is_freed() -> bool:
    """Say so to the C library, for this process; whether there is one that can be told."""
    library = ctypes.CDLL(None)
    if not hasattr(library, "gnu_get_libc_version"):
        return False
    wanted = {_ARENA_MAX: HEAPS, _MMAP_THRESHOLD: LARGE, _TRIM_THRESHOLD: SPARE}
    told = [library.mallopt(option, value) == 1 for option, value in wanted.items()]
    return all(told)
