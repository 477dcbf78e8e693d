"""Signs of life of a process, for the health check of its container: a file that it keeps writing.

A file and no message: a check needs neither Redis nor Postgres, takes no part in their failures,
and opens no way to control a process. Times are monotonic, so a clock that is set changes nothing.
"""

import os
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import Final

PROCESS_NAMES: Final = ("beat", "worker", "backfill", "maintenance", "relay")


def write_heartbeat(name: str) -> None:
    """Write that this process works now. A disk that is full or read-only is not its failure."""
    path = build_heartbeat_path(name)
    part = path.with_name(f"{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(mode=0o700, exist_ok=True)
        part.write_text(f"{time.monotonic():.3f}", encoding="ascii")
        part.replace(path)
    except OSError:
        # The health check will say that nothing is noted, and where.
        with suppress(OSError):
            part.unlink()


def read_heartbeat_age(name: str) -> float | None:
    """How long ago a process of this host last noted that it works; None where none has."""
    try:
        noted = float(build_heartbeat_path(name).read_text(encoding="ascii"))
    except (OSError, ValueError):
        return None
    age = time.monotonic() - noted
    return age if age >= 0 else None  # from before the host was started


def build_heartbeat_path(name: str) -> Path:
    """For each user a folder of its own, in the folder for temporary files (``TMPDIR``)."""
    return Path(tempfile.gettempdir()) / f"tenant-mirror-{os.getuid()}" / name
