"""Pure undo of change events: the state of an object before them.

``verify`` undoes all events to check that they fit; a snapshot undoes those after its cut.
"""

from datetime import datetime
from enum import Enum
from typing import Any

from models.change_event import ChangeKind
from worker.events.coverage import NO_COLUMNS

ObjectState = dict[str, Any] | None
"""An object's columns at some time, or None if it was not live."""


class CutState(Enum):
    """What a current row shows about its object at an earlier event."""

    UNCHANGED = "it has not been written since"
    ABSENT = "it was first seen later"
    NEEDS_UNDO = "it may have been written since: its events tell"


def classify_at_cut(first_seen_at: datetime, changed_at: datetime, cut_at: datetime) -> CutState:
    """Return how to determine the state of an object right after the event at ``cut_at``.

    Rows and their events have the same time, and times never decrease along the sequence. Several
    events may share a time, so a row written at ``cut_at`` needs its events.
    """
    if first_seen_at > cut_at:
        return CutState.ABSENT
    return CutState.UNCHANGED if changed_at < cut_at else CutState.NEEDS_UNDO


def undo_event(
    change: str,
    state: ObjectState,
    before: Any,
    after: Any,
    untold: frozenset[str] = NO_COLUMNS,
) -> tuple[str | None, ObjectState]:
    """Undo one event; return a problem (or None) and the state before the event.

    ``untold`` are the columns that the event does not tell (``Coverage``). It also lacks the
    columns that were added after it: they count as null.
    """
    if change in (ChangeKind.CREATED, ChangeKind.RESTORED):
        problem = f"({change}) does not give what follows it"
        return (None if _are_equal(state, after, untold) else problem), None
    if change == ChangeKind.DELETED:
        return (None if state is None else "(deleted) is followed by a live object"), before
    if state is None or any(
        state.get(name) != value for name, value in after.items() if name not in untold
    ):
        return "(updated) does not give what follows it", state
    return None, {**state, **before}


def _are_equal(state: ObjectState, told: ObjectState, untold: frozenset[str]) -> bool:
    if state == told or state is None or told is None:
        return state == told
    names = (state.keys() | told.keys()) - untold
    return all(state.get(name) == told.get(name) for name in names)
