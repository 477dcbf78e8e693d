"""SQL states of a server that has no room left, or whose disk fails: what they mean, what to do.

Judged by the state alone: messages are in the server's language and may hold rows. Only the path
of a file of the server's own is taken from them, as it tells which of its disks is meant.
"""

import re
from typing import Final

from worker.core.errors import MirrorError, RetryLater, StorageFull

STORAGE_FULL_PAUSE: Final = 60.0
"""Pause before the next attempt: each one asks Graph for a page that may not find room."""
DISK_FAILURE_PAUSE: Final = 300.0

_NO_ROOM: Final = {
    "53100": (
        "no space left on a disk of Postgres at {place}{detail}; make room there or enlarge it, "
        "and all goes on by itself"
    ),
    "53200": (
        "Postgres at {place} has no memory left{detail}; give it more, or lower its work_mem and "
        "max_connections"
    ),
    "53400": (
        "Postgres at {place} has reached a limit of its configuration, such as "
        "temp_file_limit{detail}; raise it"
    ),
}
_DISK_FAILURES: Final = {
    "58030": (
        "a disk of Postgres at {place} fails to read or write{detail}; see Postgres's own log, and "
        "check that disk"
    ),
    "XX001": (
        "Postgres at {place} has damaged data{detail}; see its log, and restore it from a backup"
    ),
    "XX002": "an index of Postgres at {place} is damaged{detail}; rebuild it with REINDEX",
}
STATES: Final = (*_NO_ROOM, *_DISK_FAILURES)

_FILE: Final = re.compile(
    r"\"((?:base|global|pg_tblspc|pg_wal|pg_xact|pg_multixact|pg_subtrans|pg_logical|pg_replslot)"
    r"/[A-Za-z0-9_./-]{1,200})\""
)
"""A file below the server's data directory. ``pg_tblspc`` is a tablespace: another disk, mostly."""


def classify_resource_error(state: str, place: str, text: str) -> MirrorError | None:
    """The trouble that a SQL state stands for, if it is one of these; ``text`` is the message."""
    sentence = _NO_ROOM.get(state) or _DISK_FAILURES.get(state)
    if sentence is None:
        return None
    found = _FILE.search(text)
    detail = f" (SQL state {state}{f', file {found[1]}' if found else ''})"
    message = sentence.format(place=place, detail=detail)
    if state in _NO_ROOM:
        return StorageFull(message, after=STORAGE_FULL_PAUSE)
    return RetryLater(message, after=DISK_FAILURE_PAUSE)
