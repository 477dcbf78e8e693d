"""When a connection moves next, as a page shows it. Pure."""

from datetime import datetime
from typing import Final

from msgspec import structs

from worker.conditions.activity import Activity, ActivityState
from worker.overview.fleet import FleetConnection
from worker.overview.resync_outcome import ResyncOutcome, find_resync_outcome

_AT_ANY_TICK: Final = (ActivityState.DUE, ActivityState.WAITING_FOR_SLOT)


def hold_next_move(activity: Activity) -> Activity:
    """Return an activity whose next move is a fixed time.

    What waits for one of the next ticks could move since it fell due. The time of the next tick
    would make the page differ every few seconds without news.
    """
    if activity.state in _AT_ANY_TICK:
        return structs.replace(activity, next_at=activity.since)
    return activity


def find_held_outcome(one: FleetConnection | None, since: datetime | None) -> ResyncOutcome | None:
    """Return what became of a resync; the next move of one that waits is a fixed time."""
    if one is None:
        return None
    return find_resync_outcome(one, since, hold_next_move(one.activity))
