"""The places of first loads: a place that is freed is taken up at once, not at the next tick."""

from models.run import RunTrigger
from worker.store.orphaned_leases import free_orphaned_leases
from worker.store.service.facts import (
    claim_discovery,
    is_halted,
    is_key_changed,
    note_tick,
)
from worker.store.state.claims import claim_due, claim_first_loads, count_unclaimed
from worker.sync.runtime import Runtime

CLAIM_GRACE_SECONDS = 120.0
"""Seconds after which a claimed connection is due again, if nobody took it up."""


def count_allowed_first_loads(runtime: Runtime) -> int:
    """How many first loads may be under way; none while Nango's budget has no call for them."""
    spent = runtime.nango.limiter.read_allowance(RunTrigger.BACKFILL) == 0
    return 0 if spent else runtime.settings.first_loads


def claim_next(runtime: Runtime) -> list[int]:
    """First loads for the places that are free, under the conditions of the tick.

    None while Nango does not work, after a halt, or before the list of a new key was followed.
    """
    gate = runtime.nango.limiter
    first_loads = count_allowed_first_loads(runtime)
    state, _ = gate.health.read()
    if state.is_out or not first_loads:
        return []
    with runtime.database.open_transaction() as db:
        if is_halted(db) or is_key_changed(db, gate.fingerprint):
            return []
        return claim_first_loads(db, first_loads=first_loads, claim_seconds=CLAIM_GRACE_SECONDS)


NEW_KEY_DISCOVERY_SECONDS = 15
"""Seconds between two readings of the list as long as a new key has not shown our connections."""


def claim_due_connections(runtime: Runtime) -> tuple[list[tuple[int, RunTrigger]], bool]:
    """What is due and has room in Nango's budget, and whether its list is to be read.

    Nothing while Nango itself does not work: what is due stays due. Nor before its list has been
    followed with a key that is new: it may be of another environment, which knows none of ours.
    """
    gate, settings = runtime.nango.limiter, runtime.settings
    state, _ = gate.health.read()
    by_clock = gate.read_allowance(RunTrigger.SCHEDULED)
    first_loads = count_allowed_first_loads(runtime)
    claimed: list[tuple[int, RunTrigger]] = []
    with runtime.database.open_transaction() as db:
        note_tick(db)
        free_orphaned_leases(db)
        if state.is_out:
            return [], False
        new_key = is_key_changed(db, gate.fingerprint)
        pause = settings.discovery_seconds
        if new_key:
            pause = min(pause, NEW_KEY_DISCOVERY_SECONDS)
        looks = claim_discovery(db, pause)
        if not (new_key or is_halted(db)):
            claimed = claim_due(
                db,
                limit=settings.dispatch_limit,
                scheduled_limit=by_clock,
                first_loads=first_loads,
                claim_seconds=CLAIM_GRACE_SECONDS,
            )
        sent = sum(trigger is RunTrigger.SCHEDULED for _, trigger in claimed)
        waiting = count_unclaimed(db) if sent == by_clock else 0
    gate.count_dispatched(sent, waiting)
    return claimed, looks
