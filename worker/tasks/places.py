"""The places of first loads: a place that is freed is taken up at once, not at the next tick."""

from models.run import RunTrigger
from worker.store.claims import claim_first_loads
from worker.store.service import is_halted, is_key_changed
from worker.sync.run import Kit

CLAIM_GRACE = 120.0
"""Seconds after which a claimed connection is due again, if nobody took it up."""


def first_loads_allowed(mine: Kit) -> int:
    """How many first loads may be under way; none while Nango's budget has no call for them."""
    spent = mine.nango.gate.allowance(RunTrigger.BACKFILL) == 0
    return 0 if spent else mine.settings.first_loads


def claim_next(mine: Kit) -> list[int]:
    """First loads for the places that are free, under the conditions of the tick.

    None while Nango does not work, after a halt, or before the list of a new key was followed.
    """
    gate = mine.nango.gate
    first_loads = first_loads_allowed(mine)
    state, _ = gate.health.look()
    if state.is_out or not first_loads:
        return []
    with mine.database.begin() as connection:
        if is_halted(connection) or is_key_changed(connection, gate.fingerprint):
            return []
        return claim_first_loads(connection, first_loads=first_loads, grace=CLAIM_GRACE)
