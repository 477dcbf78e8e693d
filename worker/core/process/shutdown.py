"""Whether this process's worker has been told to stop: slices then end after their page.

The parent hears the signal, its children do the work: one shared byte, made before the fork,
carries the word.
"""

import mmap
import time

_flag = mmap.mmap(-1, 1)


def request_stop() -> None:
    """Say it, to this process and all that it forked."""
    _flag[0] = 1


def is_stopping() -> bool:
    return _flag[0] == 1


def sleep_unless_stopping(seconds: float) -> None:
    """Wait, but no longer than until this process is to stop."""
    until = time.monotonic() + seconds
    while not is_stopping() and (left := until - time.monotonic()) > 0:
        time.sleep(min(left, 0.1))
