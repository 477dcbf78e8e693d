"""The places of first loads: a place that is freed is taken up at once, not at the next tick."""

from models.run import RunTrigger
from worker.store.claims import claim_first_loads
from worker.store.service import is_halted, is_key_changed
from worker.sync.run import Runtime

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
