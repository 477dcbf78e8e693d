"""Decide whether lists below other objects can be read: only once those objects are. Pure.

Nothing is read or deleted meanwhile, as the rows of those objects may be gone or be incomplete.
"""

from dataclasses import replace
from datetime import datetime

from models.stream import Phase
from worker.conditions.reasons import NEEDS, is_waiting_for_other
from worker.store.state.streams import Stream


def explain_wait(parents: Stream) -> str | None:
    """Return why no list below the objects of a stream can be read now, or None."""
    if not parents.is_on:
        return f"{NEEDS} {parents.name}, which is switched off"
    if parents.phase is Phase.REFUSED:
        return f"{NEEDS} {parents.name}, which Graph refuses"
    if parents.is_initial:
        return f"{NEEDS} {parents.name}, which has not been read completely yet"
    return None


def must_wait(stream: Stream, parents: Stream, *, are_busy: bool) -> bool:
    """Whether a stream must wait for its parents; no walk begins while they ``are_busy``."""
    is_under_way = stream.phase in (Phase.LISTING, Phase.SWEEPING)
    return (are_busy and not is_under_way) or explain_wait(parents) is not None


def hold_back(stream: Stream, parents: Stream, moment: datetime, *, is_wanted: bool) -> Stream:
    """Return the stream as it waits for its parents, or no longer; unchanged if nothing changes.

    One that waits has no time of its own: it never makes its connection due, and goes on as soon as
    its parents are read. Nor does it keep its connection in the queue of first loads, except
    together with its parents.
    """
    why = explain_wait(parents)
    waits = is_waiting_for_other(stream.reason)
    if why is None or not stream.is_on:
        return replace(stream, reason=None) if waits else stream
    if not (is_wanted or waits):
        return stream
    is_loading = parents.is_on and parents.phase is not Phase.REFUSED
    first = stream.first_due_at
    if stream.is_initial and not is_loading:
        first = first or moment
    # Why it is held or refused itself stays to be read.
    reason = stream.reason if stream.phase in (Phase.HELD, Phase.REFUSED) else why
    return replace(stream, due_at=None, first_due_at=first, reason=reason)
