"""Standard output for as many lines as there are, whoever reads them and for how long."""

import os
import select
import stat
import sys
import time
from typing import Final

_CLOSED_EVENTS: Final = select.POLLERR | select.POLLHUP


class StdoutWriter:
    """Writes lines. Raises BrokenPipeError once nobody reads them any more."""

    def __init__(self) -> None:
        self._to = sys.stdout.buffer
        self._encoding = sys.stdout.encoding
        self._poll = _poll_for_close(self._to.fileno())

    def write_line(self, line: bytes) -> None:
        """A line of bytes, as it is."""
        self._to.write(line)
        self._to.write(b"\n")

    def write_text(self, line: str) -> None:
        """A line of text, in the terminal's encoding."""
        self.write_line(line.encode(self._encoding, "replace"))

    def flush(self) -> None:
        self._to.flush()

    def wait(self, seconds: float) -> None:
        """Wait. Whoever reads a pipe may leave while there is nothing to write."""
        self.flush()
        if self._poll is None:
            time.sleep(seconds)
        elif any(event & _CLOSED_EVENTS for _, event in self._poll.poll(seconds * 1000)):
            raise BrokenPipeError

    def discard(self) -> None:
        """Nobody reads: what is left goes nowhere, and the end is quiet."""
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, self._to.fileno())
        os.close(nowhere)


def _poll_for_close(number: int) -> "select.poll | None":
    """Tells when the other end of a pipe or socket is closed; files and terminals have none."""
    mode = os.fstat(number).st_mode
    if not (stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode)):
        return None
    poll = select.poll()
    poll.register(number, 0)
    return poll
