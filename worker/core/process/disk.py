"""Detects full disks of this host."""

import errno
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Final

from worker.core.errors import StorageFull

DISK_FULL_ERRNOS: Final = (errno.ENOSPC, errno.EDQUOT)
"""Error numbers of a full disk or an exhausted quota."""


def storage_full_from_oserror(error: OSError, place: object = None) -> StorageFull | None:
    """Return StorageFull for a full disk or an exhausted quota, else None.

    ``place`` names what was written where the operating system does not.
    """
    if error.errno not in DISK_FULL_ERRNOS:
        return None
    where = error.filename or place
    what = f"{where} cannot be written" if where else "a file cannot be written"
    why = "the quota of the service on its disk" if error.errno == errno.EDQUOT else "its disk"
    return StorageFull(f"{what}: no space left, {why} is full on this host; free some space there")


MIN_FREE_BYTES: Final = 32 * 1024 * 1024
"""Free bytes below which a disk counts as full: Postgres allocates WAL in segments of 16 MiB."""


def warn_if_disk_full(path: Path, say: Callable[[str], None]) -> None:
    """Call ``say`` with a warning if the disk of a directory is full."""
    try:
        free = shutil.disk_usage(path).free
    except OSError:
        return
    if free < MIN_FREE_BYTES:
        say(
            f"the disk of {path} is full on this host ({free // 1024 // 1024} MiB are free): "
            "free some space there; the service then continues by itself"
        )
