"""Runs work that ends within a time limit after a stop request, even while it waits."""

import os
import sys
import time
from collections.abc import Callable
from threading import Event, Thread, current_thread
from threading import enumerate as list_threads

from worker.core.log import get_logger

POLL_SECONDS = 0.5


def run_until_stopped(stop: Event, work: Callable[[], None], seconds: float) -> None:
    """Run ``work`` in a thread; return when it is done, at most ``seconds`` after ``stop``.

    Work that takes longer waits for something that cannot be interrupted, such as a server that
    never answers. Its thread is abandoned and ends with the process, as if that had been killed.
    Raises the errors of ``work``.
    """
    faults: list[BaseException] = []

    def run() -> None:
        try:
            work()
        except BaseException as error:  # noqa: BLE001 - raised again by who waits
            faults.append(error)

    thread = Thread(target=run, name="work", daemon=True)
    thread.start()
    while thread.is_alive() and not stop.is_set():
        # Signals are handled between two waits.
        thread.join(POLL_SECONDS)
    thread.join(seconds)
    if faults:
        raise faults[0]
    if thread.is_alive():
        get_logger().warning("ended in the middle of the work", seconds=seconds)


def abandon_busy_threads(seconds: float) -> None:
    """End the process with code 0 if threads are busy for longer, as Python would wait for them.

    Such a thread waits for a server that never answers.
    """
    until = time.monotonic() + seconds
    others = [one for one in list_threads() if one is not current_thread() and not one.daemon]
    for one in others:
        one.join(max(0.0, until - time.monotonic()))
    if any(one.is_alive() for one in others):
        get_logger().warning("ended in the middle of the work", seconds=seconds)
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(0)
