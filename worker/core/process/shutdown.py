"""The stop request of a worker. Once it is set, slices end after their page.

The parent receives the signal and its children do the work, so one byte of shared memory, made
before the fork, passes the request on.
"""

import mmap
import time

_flag = mmap.mmap(-1, 1)


def request_stop() -> None:
    """Ask this process and all its forked children to stop."""
    _flag[0] = 1


def is_stopping() -> bool:
    return _flag[0] == 1


def sleep_unless_stopping(seconds: float) -> None:
    """Sleep, but end early once this process has to stop."""
    until = time.monotonic() + seconds
    while not is_stopping() and (left := until - time.monotonic()) > 0:
        time.sleep(min(left, 0.1))
