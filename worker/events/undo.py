"""Change events backwards: what an object was before them. Pure.

``verify`` undoes all of them to see that they fit; a snapshot undoes those behind its cut.
"""

from datetime import datetime
from enum import Enum
from typing import Any

from models.change_event import ChangeKind

ObjectState = dict[str, Any] | None
"""An object's columns at some time, or None where it was not live."""


class CutState(Enum):
    """What a row of now says about its object at an earlier event."""

    UNCHANGED = "it has not been written since"
    ABSENT = "it was first seen later"
    NEEDS_UNDO = "it may have been written since: its events tell"


def classify_at_cut(first_seen_at: datetime, changed_at: datetime, cut_at: datetime) -> CutState:
    """Where to learn what an object was right after the event of ``cut_at``.

    Rows are written at the moment of their events, and no event is earlier than one before it.
    Several may share a moment, so what was written at the cut's is not known without its events.
    """
    if first_seen_at > cut_at:
        return CutState.ABSENT
    return CutState.UNCHANGED if changed_at < cut_at else CutState.NEEDS_UNDO


def undo_event(
    change: str, state: ObjectState, before: Any, after: Any
) -> tuple[str | None, ObjectState]:
    """One event backwards: what does not fit, and the state before it."""
    if change in (ChangeKind.CREATED, ChangeKind.RESTORED):
        return (None if state == after else f"({change}) does not give what follows it"), None
    if change == ChangeKind.DELETED:
        return (None if state is None else "(deleted) is followed by a live object"), before
    if state is None or any(state.get(name) != value for name, value in after.items()):
        return "(updated) does not give what follows it", state
    return None, {**state, **before}
