"""Claim the connections to dispatch; a free first-load slot is refilled at once."""

from models.run import RunTrigger
from worker.store.orphaned_leases import free_orphaned_leases
from worker.store.service.facts import (
    claim_discovery,
    is_halted,
    is_key_changed,
    note_sent,
    note_tick,
)
from worker.store.state.claims import claim_due, claim_first_loads, count_unclaimed
from worker.sync.runtime import Runtime

CLAIM_GRACE_SECONDS = 120.0
"""Seconds after which a claimed connection is due again if no process took it."""


def count_allowed_first_loads(runtime: Runtime) -> int:
    """Return how many first loads may run; none while Nango's budget has no call for them."""
    spent = runtime.nango.limiter.read_allowance(RunTrigger.BACKFILL) == 0
    return 0 if spent else runtime.settings.first_loads


def claim_next(runtime: Runtime) -> list[int]:
    """Claim first loads for the free slots, under the conditions of the tick.

    Claims none while Nango is down, after a halt, or before the list of a new key was applied.
    """
    limiter = runtime.nango.limiter
    first_loads = count_allowed_first_loads(runtime)
    state, _ = limiter.health.read()
    if state.is_out or not first_loads:
        return []
    with runtime.database.open_transaction() as db:
        if is_halted(db) or is_key_changed(db, limiter.fingerprint):
            return []
        return claim_first_loads(db, first_loads=first_loads, claim_seconds=CLAIM_GRACE_SECONDS)


NEW_KEY_DISCOVERY_SECONDS = 15
"""Seconds between two discoveries while a new key has not shown the known connections."""

NEW_KEY_REASON = "Nango's list has not been applied since the key changed"


def claim_due_connections(runtime: Runtime) -> tuple[list[tuple[int, RunTrigger]], bool]:
    """Claim the due connections that Nango's budget allows; also return if discovery is due.

    Claims none while Nango is down: due connections stay due. Nor before its list has been applied
    with a new key, which may be of another environment that has none of the connections.
    """
    limiter, settings = runtime.nango.limiter, runtime.settings
    state, _ = limiter.health.read()
    by_clock = limiter.read_allowance(RunTrigger.SCHEDULED)
    first_loads = count_allowed_first_loads(runtime)
    claimed: list[tuple[int, RunTrigger]] = []
    with runtime.database.open_transaction() as db:
        note_tick(db)
        free_orphaned_leases(db)
        if state.is_out:
            return [], False
        new_key = is_key_changed(db, limiter.fingerprint)
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
        by_turn = any(trigger is not RunTrigger.BACKFILL for _, trigger in claimed)
        note_sent(db, sent=by_turn, held_back=NEW_KEY_REASON if new_key else None)
        sent = sum(trigger is RunTrigger.SCHEDULED for _, trigger in claimed)
        waiting = count_unclaimed(db) if sent == by_clock else 0
    limiter.count_dispatched(sent, waiting)
    return claimed, looks
