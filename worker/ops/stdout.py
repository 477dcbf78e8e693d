"""Writes lines to stdout until its reader leaves."""

import os
import select
import stat
import sys
import time
from typing import Final

_CLOSED_EVENTS: Final = select.POLLERR | select.POLLHUP


class StdoutWriter:
    """Writes lines. Raises BrokenPipeError once the reader has left."""

    def __init__(self) -> None:
        self._to = sys.stdout.buffer
        self._encoding = sys.stdout.encoding
        self._poll = _poll_for_close(self._to.fileno())

    def write_line(self, line: bytes) -> None:
        """Write a line of bytes unchanged."""
        self._to.write(line)
        self._to.write(b"\n")

    def write_text(self, line: str) -> None:
        """Write a line of text in the terminal's encoding."""
        self.write_line(line.encode(self._encoding, "replace"))

    def flush(self) -> None:
        self._to.flush()

    def wait(self, seconds: float) -> None:
        """Wait, and notice if the reader of a pipe leaves meanwhile."""
        self.flush()
        if self._poll is None:
            time.sleep(seconds)
        elif any(event & _CLOSED_EVENTS for _, event in self._poll.poll(seconds * 1000)):
            raise BrokenPipeError

    def discard(self) -> None:
        """Discard the rest once the reader has left, so that the process ends without a message."""
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, self._to.fileno())
        os.close(nowhere)


def _poll_for_close(number: int) -> "select.poll | None":
    """Return a poll for the closing of a pipe or socket; None for files and terminals."""
    mode = os.fstat(number).st_mode
    if not (stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode)):
        return None
    poll = select.poll()
    poll.register(number, 0)
    return poll
