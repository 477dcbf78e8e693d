"""Walks that go in circles and never end, as `Knobs.loop` wants them."""

from dataclasses import replace

from sandbox.tenant.graph.call import Call
from sandbox.tenant.tokens import Cursor, Mode


def loops_now(call: Call, cursor: Cursor) -> bool:
    """Whether this page of a walk is where the circle goes, or beyond."""
    knobs = call.tenant.knobs
    if not knobs.loop or cursor.mode is Mode.DELTA or cursor.page < knobs.loop_at:
        return False
    return not knobs.loop_on or call.shape in knobs.loop_on


def following(call: Call, cursor: Cursor, planned: Cursor | None) -> Cursor | None:
    """Where the page's next link leads: as planned (None: the walk ends), or in a circle."""
    if not loops_now(call, cursor):
        return planned
    loop = call.tenant.knobs.loop
    if loop == "same":
        return cursor
    if loop == "cycle":
        return _cycle(call, cursor, planned)
    if loop == "again":
        return planned or _from_the_start(cursor)
    return replace(cursor, page=cursor.page + 1)


def _cycle(call: Call, cursor: Cursor, planned: Cursor | None) -> Cursor:
    knobs = call.tenant.knobs
    name = f"{call.path} {cursor.mode} {cursor.epoch} {cursor.mask} {cursor.base} {cursor.top}"
    if cursor.page == knobs.loop_at:
        call.tenant.loops[name] = cursor
    start = call.tenant.loops.get(name, cursor)
    if planned is None or cursor.page >= start.page + knobs.loop_length - 1:
        return start
    return planned


def _from_the_start(cursor: Cursor) -> Cursor:
    at = cursor.base if cursor.mode is Mode.ROUND else 0
    return replace(cursor, at=at, offset=0, page=cursor.page + 1)
