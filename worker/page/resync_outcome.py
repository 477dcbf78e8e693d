"""What became of a resync: the latest run since it was asked for, or what it waits for. Pure."""

from datetime import datetime

import msgspec

from models.run import RunState
from worker.overview.fleet import FleetConnection
from worker.page.next_move import hold_next_move
from worker.page.runs import STATE_MARKS


class ResyncOutcome(msgspec.Struct, frozen=True):
    """The sync that a resync led to, as far as it has come."""

    run_id: int | None
    """The latest run since then; None if none has run since."""
    state: RunState | None
    mark: str
    at: datetime | None
    """When that run ended, or began if it is under way."""
    waits: str | None
    """What the connection waits for; None once a run has served the request."""
    next_at: datetime | None


def find_outcome(one: FleetConnection | None, since: datetime | None) -> ResyncOutcome | None:
    """Return what became of a resync that was recorded at a time; None if there is none to find."""
    if one is None or since is None:
        return None
    facts = one.facts
    if facts.running_id is not None:
        state = RunState.RUNNING
        begun = facts.running_since
        return ResyncOutcome(facts.running_id, state, STATE_MARKS[state], begun, None, None)
    activity = hold_next_move(one.activity)
    waits, next_at = activity.sentence, activity.next_at
    ended = facts.last_finished_at
    if facts.last_run_id is None or facts.last_state is None or ended is None or ended < since:
        return ResyncOutcome(None, None, "info", None, waits, next_at)
    state = RunState(facts.last_state)
    is_open = facts.requested_at is not None
    return ResyncOutcome(
        facts.last_run_id,
        state,
        STATE_MARKS[state],
        ended,
        waits if is_open else None,
        next_at if is_open else None,
    )
