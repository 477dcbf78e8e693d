"""Heartbeats for the health check of a container: a file that the process keeps writing.

It is a file and no message, so the check needs neither Redis nor Postgres, does not fail with them,
and opens no way to control a process. Times are monotonic, so setting the clock has no effect.
"""

import os
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import Final

PROCESS_NAMES: Final = ("beat", "worker", "backfill", "maintenance", "relay", "web")


def write_heartbeat(name: str) -> None:
    """Record that this process works now. A full or read-only disk is ignored."""
    path = build_heartbeat_path(name)
    part = path.with_name(f"{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(mode=0o700, exist_ok=True)
        # Exactly: rounded up, a heartbeat would lie in the future of who reads it at once.
        part.write_text(repr(time.monotonic()), encoding="ascii")
        part.replace(path)
    except OSError:
        # The health check reports the missing heartbeat and its path.
        with suppress(OSError):
            part.unlink()


def read_heartbeat_age(name: str) -> float | None:
    """Return the seconds since a process of this host wrote its heartbeat; None if none did."""
    try:
        noted = float(build_heartbeat_path(name).read_text(encoding="ascii"))
    except (OSError, ValueError):
        return None
    age = time.monotonic() - noted
    return age if age >= 0 else None  # from before the host was started


def build_heartbeat_path(name: str) -> Path:
    """Return a path in a folder of this user, inside the temporary folder (``TMPDIR``)."""
    return Path(tempfile.gettempdir()) / f"tenant-mirror-{os.getuid()}" / name
