"""Preemption: end a slice early where an operator pauses its connection, or other work waits.

A slice may take a minute, and as many large customers as there are processes would hold all of
them. The database shows which dispatched slices have no process yet, so it does not matter on which
host they wait. First loads have their own processes, so only a pause ends them early.
"""

import time
from collections.abc import Callable
from typing import Final

import sqlalchemy as sa

from models.run import RunTrigger
from worker.store.state.claims import is_slice_waiting
from worker.store.state.pauses import is_operator_paused
from worker.sync.context import SliceContext

MIN_SLICE_SECONDS: Final = 3.0
"""Seconds that a slice lasts at least before other work ends it: each costs an opening call of
Nango's budget."""

MAX_WAIT_SECONDS: Final = 0.5
"""Seconds that a dispatched slice may wait: an idle process takes it within milliseconds."""

CHECK_INTERVAL: Final = 1.0
"""Seconds between two checks of the database."""


def build_preemption_check(context: SliceContext) -> Callable[[], bool]:
    """Return a function that checks whether the slice must end now.

    It is called on the slice's own thread, between two pages. A person who syncs a connection in
    the foreground goes on.
    """
    if context.is_foreground:
        return lambda: False
    next_look = context.started_monotonic + CHECK_INTERVAL

    def is_preempted() -> bool:
        nonlocal next_look
        now = time.monotonic()
        if now < next_look:
            return False
        next_look = now + CHECK_INTERVAL
        with context.database.open_transaction() as db:
            return is_operator_paused(db, context.connection.id) or (
                _gives_way(context, now) and _is_other_waiting(db)
            )

    return is_preempted


def _gives_way(context: SliceContext, now: float) -> bool:
    """Whether the slice has lasted long enough to give its process to other work."""
    is_long = now >= context.started_monotonic + MIN_SLICE_SECONDS
    return is_long and context.run.trigger is not RunTrigger.BACKFILL


def _is_other_waiting(db: sa.Connection) -> bool:
    return is_slice_waiting(db, seconds=MAX_WAIT_SECONDS)
