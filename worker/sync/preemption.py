"""Preemption: end a long slice early where manual or scheduled work waits for its process.

A slice may take a minute, and as many large customers as there are processes would hold all of
them. The database shows which dispatched slices have no process yet, so it does not matter on which
host they wait. First loads have their own processes and are never preempted.
"""

import time
from collections.abc import Callable
from typing import Final

from models.run import RunTrigger
from worker.store.state.claims import is_slice_waiting
from worker.sync.context import SliceContext

MIN_SLICE_SECONDS: Final = 3.0
"""Seconds that a slice lasts at least: each costs an opening call of Nango's budget."""

MAX_WAIT_SECONDS: Final = 0.5
"""Seconds that a dispatched slice may wait: an idle process takes it within milliseconds."""

CHECK_INTERVAL: Final = 1.0
"""Seconds between two checks of the database."""


def build_preemption_check(context: SliceContext) -> Callable[[], bool]:
    """Return a function that checks whether the slice must end now.

    It is called on the slice's own thread, between two pages.
    """
    if context.is_foreground or context.run.trigger is RunTrigger.BACKFILL:
        return lambda: False
    next_look = context.started_monotonic + MIN_SLICE_SECONDS

    def is_preempted() -> bool:
        nonlocal next_look
        now = time.monotonic()
        if now < next_look:
            return False
        next_look = now + CHECK_INTERVAL
        with context.database.open_transaction() as db:
            return is_slice_waiting(db, seconds=MAX_WAIT_SECONDS)

    return is_preempted
