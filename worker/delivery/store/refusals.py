"""Events that a receiver refuses: recorded at their connection's position, never skipped.

The position stays before the refused event. Only an operator advances it.
"""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy import text

from worker.core.errors import LeaseLost, NotFound
from worker.delivery.store.fragments import ALLOWS_INITIAL, SINK_COLUMNS
from worker.delivery.store.sinks import CLEAR_REFUSAL, Backlog, Sink, fence_sink, sink_from_row
from worker.events.event import Position, SnapshotProgress

_LOCK_SERVED_SINK = text("""
    select id from events.sinks where id = :id and token = :token and status = 'active' for update
""")
_COUNT = text("select count(*) from events.positions where sink_id = :id and failures > 0")
_REFUSE = text("""
    insert into events.positions as p (sink_id, connection_id, seq, failures, retry_at, failed_at,
                                       reason, refused_id)
    select :id, l.connection_id, :seq, 1, clock_timestamp() + make_interval(secs => :seconds),
           clock_timestamp(), :reason, :refused_id
      from sync.leases l where l.connection_id = :connection_id
        on conflict (sink_id, connection_id) do update
       set failures = p.failures + 1, retry_at = excluded.retry_at, failed_at = excluded.failed_at,
           reason = excluded.reason, refused_id = excluded.refused_id
""")
_FIND = text(f"""
    select {SINK_COLUMNS},
           p.connection_id, p.seq, p.occurred_at, p.snapshot, p.failures as refusals, p.reason,
           p.refused_id, l.event_seq, c.tenant_id, {ALLOWS_INITIAL} as allows_initial
      from events.sinks s
      join events.positions p on p.sink_id = s.id and p.failures > 0
      join sync.leases l on l.connection_id = p.connection_id
      join sync.connections c on c.id = p.connection_id
     where s.name = :name and p.connection_id = :connection_id
""")
_LOCK = text("select id from events.sinks where id = :id for update")
_SKIP = text(f"""
    update events.positions
       set seq = :seq, occurred_at = :at, snapshot = cast(:snapshot as jsonb),
           updated_at = clock_timestamp(), {CLEAR_REFUSAL}
     where sink_id = :id and connection_id = :connection_id and refused_id = :refused_id
""")


@dataclass(frozen=True)
class Refusal:
    """A connection whose next event is refused, with that event."""

    sink: Sink
    backlog: Backlog
    event_id: str
    reason: str


def count_refusals(db: sa.Connection, sink: Sink) -> int:
    """Return how many connections have a next event that the receiver refuses."""
    return int(db.execute(_COUNT, {"id": sink.id}).scalar_one())


def record_refusal(
    db: sa.Connection,
    sink: Sink,
    position: Position,
    *,
    event_id: str,
    seconds: float,
    reason: str,
) -> None:
    """Record that the event after a position was refused, and when it is retried.

    Raises LeaseLost if this process does not serve the sink.
    """
    if db.execute(_LOCK_SERVED_SINK, {"id": sink.id, "token": sink.token}).first() is None:
        raise LeaseLost(f"sink {sink.name} is served by another process now")
    db.execute(
        _REFUSE,
        {
            "id": sink.id,
            "connection_id": position.connection_id,
            "seq": position.seq,
            "seconds": seconds,
            "reason": reason,
            "refused_id": event_id,
        },
    )


def find_refusal(db: sa.Connection, name: str, connection_id: int) -> Refusal:
    """Return the event that a sink's receiver refuses. Raises NotFound if there is none."""
    row = db.execute(_FIND, {"name": name, "connection_id": connection_id}).one_or_none()
    if row is None:
        raise NotFound(
            f"no event of connection {connection_id} is refused by sink '{name}'; "
            f"'tenant-mirror sinks show {name}' says which are"
        )
    return Refusal(sink_from_row(row), _build_backlog(row), row.refused_id, row.reason)


def _build_backlog(row: Any) -> Backlog:
    snapshot = None if row.snapshot is None else SnapshotProgress.from_json(row.snapshot)
    position = Position(row.connection_id, row.seq, row.occurred_at, snapshot)
    return Backlog(position, row.event_seq, row.tenant_id, row.allows_initial, row.refusals)


def skip_refused(db: sa.Connection, refused: Refusal, position: Position) -> bool:
    """Advance the position past a refused event; False if it is no longer refused."""
    sink_id = refused.sink.id
    if db.execute(_LOCK, {"id": sink_id}).first() is None:
        return False
    values = {
        "id": sink_id,
        "connection_id": position.connection_id,
        "seq": position.seq,
        "at": position.occurred_at,
        "snapshot": position.snapshot and position.snapshot.as_json,
        "refused_id": refused.event_id,
    }
    if db.execute(_SKIP, values).rowcount != 1:
        return False
    fence_sink(db, sink_id)
    return True


_RETRY = text(f"""
    update events.positions set {CLEAR_REFUSAL}
     where sink_id = :id and failures > 0
       and (cast(:ids as bigint[]) is null or connection_id = any (cast(:ids as bigint[])))
""")


def retry_refused(
    db: sa.Connection, sink_id: int, connection_ids: Collection[int] | None = None
) -> int:
    """Retry refused events at once, with short pauses again; return how many connections."""
    ids = None if connection_ids is None else sorted(connection_ids)
    return db.execute(_RETRY, {"id": sink_id, "ids": ids}).rowcount
