"""When a connection moves next, as a page shows it. Pure."""

from typing import Final

from msgspec import structs

from worker.conditions.activity import Activity, ActivityState

_AT_ANY_TICK: Final = (ActivityState.DUE, ActivityState.WAITING_FOR_SLOT)


def hold_next_move(activity: Activity) -> Activity:
    """Return an activity whose next move is a fixed time.

    What waits for one of the next ticks could move since it fell due. The time of the next tick
    would make the page differ every few seconds without news.
    """
    if activity.state in _AT_ANY_TICK:
        return structs.replace(activity, next_at=activity.since)
    return activity
