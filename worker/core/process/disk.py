"""A full disk of this host."""

import errno
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Final

from worker.core.errors import StorageFull

DISK_FULL_ERRNOS: Final = (errno.ENOSPC, errno.EDQUOT)
"""Numbers of errors."""


def storage_full_from_oserror(fault: OSError, place: object = None) -> StorageFull | None:
    """What a failed write means where a disk, or our share of it, is used up; else None.

    ``place`` says what was written where the operating system does not.
    """
    if fault.errno not in DISK_FULL_ERRNOS:
        return None
    where = fault.filename or place
    what = f"{where} cannot be written" if where else "a file cannot be written"
    why = "our quota on its disk" if fault.errno == errno.EDQUOT else "its disk"
    return StorageFull(f"{what}: no space left, {why} is full on this host; make room there")


MIN_FREE_BYTES: Final = 32 * 1024 * 1024
"""Bytes below which a disk counts as full: Postgres wants 16 MiB at once for its log of changes."""


def warn_if_disk_full(path: Path, say: Callable[[str], None]) -> None:
    """Say so where the disk that a directory lies on is full."""
    try:
        free = shutil.disk_usage(path).free
    except OSError:
        return
    if free < MIN_FREE_BYTES:
        say(
            f"the disk of {path} is full on this host ({free // 1024 // 1024} MiB are free): "
            "make room there, and all goes on by itself"
        )
