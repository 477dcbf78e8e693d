"""Standard output and error that survive a full disk.

A line that cannot be written stays in Python's buffer, so every later flush fails again, and a
worker would end when it forks a child. Lines that cannot be written are dropped and counted, and
the next line that can be written is preceded by their number.
"""

import io
import os
import sys
from typing import Any, Final

from worker.core.process.disk import DISK_FULL_ERRNOS

_LOST_LINES: Final = '{"event": "log lines lost: no space left", "level": "error", "lost": %d}\n'


class LossyOutput(io.RawIOBase):
    """Writes to a file descriptor; lines are dropped while the disk is full."""

    def __init__(self, number: int) -> None:
        self._number = number
        self._lost = 0

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._number

    def isatty(self) -> bool:
        return os.isatty(self._number)

    def write(self, data: Any, /) -> int:
        line = bytes(data)
        try:
            if self._lost:
                self._write_all((_LOST_LINES % self._lost).encode())
                self._lost = 0
            self._write_all(line)
        except OSError as error:
            if error.errno not in DISK_FULL_ERRNOS:
                raise
            self._lost += 1
        return len(line)

    def _write_all(self, line: bytes) -> None:
        left = memoryview(line)
        while left:
            left = left[os.write(self._number, left) :]


def drop_output_on_full_disk() -> None:
    """Replace this process's stdout and stderr so that output is dropped on a full disk."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        try:
            number = stream.fileno()
        except (AttributeError, OSError, ValueError):
            continue  # replaced by other code, such as a test's capture
        text = io.TextIOWrapper(
            io.BufferedWriter(LossyOutput(number)),
            encoding=stream.encoding,
            errors="backslashreplace",
            line_buffering=True,
            write_through=True,
        )
        setattr(sys, name, text)
