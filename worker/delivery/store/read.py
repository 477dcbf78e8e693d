"""Read the events that a sink has yet to deliver."""

import sqlalchemy as sa

from worker.delivery.store.sinks import Sink
from worker.events.event import Event, Position
from worker.events.read import read_events_after


def read_sink_events(
    db: sa.Connection, sink: Sink, after: Position, limit: int, *, initial: bool = True
) -> tuple[list[Event], Position]:
    """Return the next events that the sink wants, in order, and the position after the last one.

    A caller that has read a connection's ``event_seq`` before sees every event up to it: both were
    committed together. The position also passes events that the sink does not want, and does not
    change if no event is left. ``initial`` says whether the connection's settings allow events of
    first loads; the sink must want them, too.
    """
    events = read_events_after(db, after, limit)
    if not events:
        return [], after
    wanted = events
    if not (sink.wants_all and initial):
        wanted = [event for event in events if sink.wants(event) and (initial or not event.initial)]
    return wanted, Position(after.connection_id, events[-1].seq, events[-1].occurred_at)
