"""Reading change events on, for delivery."""

from typing import Final

from sqlalchemy import Connection

from worker.store.engine import along_the_key, driver
from worker.store.sinks import Position, Sink, Told

COLUMNS: Final = """
    connection_id, seq, occurred_at, event_id::text, resource, object_id, change, changed,
    before::text, after::text, initial
"""
"""Of an event as it is told."""
_EVENTS: Final = f"""
    select {COLUMNS}
      from events.change_events
     where connection_id = %(id)s and seq > %(seq)s {{since}}
     order by seq limit %(limit)s
"""
_ALL: Final = _EVENTS.format(since="").encode()
_SINCE: Final = _EVENTS.format(since="and occurred_at >= %(at)s").encode()
"""No later event is earlier, so Postgres leaves out the months before."""


def read_events(
    connection: Connection, sink: Sink, after: Position, limit: int, *, initial: bool = True
) -> tuple[list[Told], Position]:
    """The next events that the sink wants, in order, and the position behind all that was read.

    Whoever has read a connection's ``event_seq`` before sees every event up to it: both were
    committed together. The position stays where it is if no event is left. ``initial`` says whether
    the connection lets the events of its first loads out; the sink must want them, too.
    """
    found = events_after(connection, after, limit)
    if not found:
        return [], after
    wanted = found
    if not (sink.wants_all and initial):
        wanted = [told for told in found if sink.wants(told) and (initial or not told.initial)]
    return wanted, Position(after.connection_id, found[-1].seq, found[-1].occurred_at)


def events_after(connection: Connection, after: Position, limit: int) -> list[Told]:
    """The next events of a connection, in order."""
    values = {"id": after.connection_id, "seq": after.seq, "at": after.occurred_at, "limit": limit}
    along_the_key(connection)
    with driver(connection).cursor() as cursor:
        cursor.execute(_ALL if after.occurred_at is None else _SINCE, values)
        return [Told(*row) for row in cursor.fetchall()]
