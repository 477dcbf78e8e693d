"""Sinks and their positions: leases, backlogs and delivery progress.

A sink is served under a lease with a fencing token, as connections are written: a relay that was
stopped past its lease may still deliver its batch, but it cannot move a position. Positions move
after delivery, so events lost in between are delivered again.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

import msgspec
import sqlalchemy as sa
from sqlalchemy import text

from models.change_event import ConnectionChange
from models.sink import SinkKind, SinkStart
from worker.core.errors import LeaseLost
from worker.delivery.store.fragments import ALLOWS_INITIAL, SINK_COLUMNS, WANTS_CONNECTION
from worker.events.epochs import record_new_identity
from worker.events.event import Event, Position, SnapshotProgress

CLEAR_REFUSAL: Final = """
    failures = 0, retry_at = null, failed_at = null, reason = null, refused_id = null
"""
"""The columns of a position that moves to another event, or whose event is retried at once."""


_CLAIM = text(f"""
    update events.sinks s
       set token = token + 1, holder = :holder,
           expires_at = clock_timestamp() + make_interval(secs => :seconds)
     where id in (select id from events.sinks
                   where status = 'active'
                     and (expires_at is null or expires_at < clock_timestamp())
                     and (retry_at is null or retry_at <= clock_timestamp())
                     and not (id = any (cast(:without as bigint[])))
                   order by expires_at nulls first, id limit :limit for update skip locked)
 returning {SINK_COLUMNS}
""")
_RENEW = text("""
    update events.sinks set expires_at = clock_timestamp() + make_interval(secs => :seconds)
     where id = :id and token = :token and status = 'active' and expires_at is not null
""")
_RELEASE = text("""
    update events.sinks set expires_at = null, holder = null where id = :id and token = :token
""")
_FENCE = text("""
    update events.sinks
       set token = token + 1, expires_at = null, holder = null, failures = 0, retry_at = null
     where id = :id
""")
_RECORD_DELIVERY = text("""
    update events.sinks
       set last_delivered_at = case when :delivered then clock_timestamp()
                                    else last_delivered_at end,
           failures = case when :delivered then 0 else failures end,
           retry_at = case when :delivered then null else retry_at end,
           status_reason = case when :delivered then null else status_reason end,
           expires_at = case when expires_at is null then null
                             else clock_timestamp() + make_interval(secs => :seconds) end
     where id = :id and token = :token
""")
_RECORD_FAILURE = text("""
    update events.sinks
       set failures = :failures, status_reason = :reason,
           retry_at = clock_timestamp() + make_interval(secs => :seconds)
     where id = :id and token = :token
""")
_DISABLE = text("""
    update events.sinks
       set status = 'disabled', status_reason = :reason, expires_at = null, holder = null
     where id = :id and token = :token
""")
_BACKLOGS = text(f"""
    select l.connection_id, l.event_seq, coalesce(p.seq, 0), p.occurred_at, p.snapshot, c.tenant_id,
           {ALLOWS_INITIAL},
           coalesce(p.failures, 0)
      from events.sinks s
     cross join sync.leases l
      join sync.connections c on c.id = l.connection_id
      left join events.positions p
        on p.sink_id = s.id and p.connection_id = l.connection_id
     where s.id = :id and s.token = :token and s.status = 'active'
       and (l.event_seq > coalesce(p.seq, 0) or p.snapshot is not null)
       and {WANTS_CONNECTION}
       and (p.retry_at is null or p.retry_at <= clock_timestamp())
     order by l.connection_id
""")
_ADVANCE = text(f"""
    insert into events.positions (sink_id, connection_id, seq, occurred_at, snapshot, updated_at)
    select :id, l.connection_id, :seq, :at, cast(:snapshot as jsonb), clock_timestamp()
      from sync.leases l where l.connection_id = :connection_id
        on conflict (sink_id, connection_id) do update
       set seq = excluded.seq, occurred_at = excluded.occurred_at, snapshot = excluded.snapshot,
           updated_at = excluded.updated_at, {CLEAR_REFUSAL}
""")
_START_POSITIONS = text("""
    insert into events.positions (sink_id, connection_id, seq, occurred_at, snapshot)
    select s.id, l.connection_id, l.event_seq, l.last_event_at,
           case when s.start = 'snapshot' and l.last_event_at is not null then '{}'::jsonb end
      from events.sinks s cross join sync.leases l
     where s.id = :id and s.start in ('now', 'snapshot')
        on conflict (sink_id, connection_id) do nothing
""")


_NEVER_FILTERED: Final = (ConnectionChange.REWOUND, ConnectionChange.COVERAGE_CHANGED)


@dataclass(frozen=True)
class Sink:
    """A sink as it was when it was claimed or read."""

    id: int
    name: str
    kind: SinkKind
    token: int
    settings: dict[str, Any] = field(default_factory=dict)
    secrets: dict[str, Any] = field(default_factory=dict, repr=False)
    resources: frozenset[str] | None = None
    changes: frozenset[str] | None = None
    connections: frozenset[int] | None = None
    initial: bool = True
    start: SinkStart = SinkStart.NOW
    failures: int = 0
    epoch: str = ""
    """The epoch of the sequence numbers when the sink was read."""

    @property
    def wants_all(self) -> bool:
        return self.resources is None and self.changes is None and self.initial

    def wants(self, event: Event) -> bool:
        """Whether the sink wants an event.

        ``rewound`` events go to every sink, and ``coverage_changed`` to those that want the
        resource that it is about: without them, a receiver's copy would be wrong.
        """
        if event.change == ConnectionChange.COVERAGE_CHANGED and self.resources is not None:
            about = msgspec.json.decode(event.after or "{}").get("resource")
            return not self.resources.isdisjoint((event.resource, about))
        return event.change in _NEVER_FILTERED or (
            (self.initial or not event.initial)
            and (self.resources is None or event.resource in self.resources)
            and (self.changes is None or event.change in self.changes)
        )


class Backlog(NamedTuple):
    """A connection with undelivered events: those after ``position`` up to ``event_seq``."""

    position: Position
    event_seq: int
    tenant_id: str | None
    allows_initial: bool = True
    """Whether the connection's settings allow the events of its first loads."""
    failures: int = 0
    """How often in a row the receiver refused the next event."""


def claim_sinks(
    db: sa.Connection,
    holder: str,
    *,
    seconds: float,
    limit: int,
    exclude: Sequence[int] = (),
) -> list[Sink]:
    """Claim sinks that no relay serves and whose pause is over.

    Skips the sinks with an id in ``exclude``.
    """
    values = {"holder": holder, "seconds": seconds, "limit": limit, "without": list(exclude)}
    claimed = db.execute(_CLAIM, values).all()
    if claimed:
        record_new_identity(db)
    return [sink_from_row(row) for row in claimed]


def sink_from_row(row: Any) -> Sink:
    """Return the sink in a row that has ``SINK_COLUMNS``."""
    return Sink(
        id=row.id,
        name=row.name,
        kind=SinkKind(row.kind),
        token=row.token,
        settings=row.settings,
        secrets=row.secrets,
        resources=_to_filter(row.resources),
        changes=_to_filter(row.changes),
        connections=_to_filter(row.connections),
        initial=row.initial,
        start=SinkStart(row.start),
        failures=row.failures,
        epoch=row.epoch,
    )


def _to_filter(values: Iterable[Any] | None) -> frozenset[Any] | None:
    return None if values is None else frozenset(values)


def renew_sink(db: sa.Connection, sink: Sink, *, seconds: float) -> bool:
    """Renew the lease; False if it is lost, or the sink is not active."""
    values = {"id": sink.id, "token": sink.token, "seconds": seconds}
    return db.execute(_RENEW, values).rowcount == 1


def release_sink(db: sa.Connection, sink: Sink) -> None:
    """Release the lease; no effect if it is lost."""
    db.execute(_RELEASE, {"id": sink.id, "token": sink.token})


def fence_sink(db: sa.Connection, sink_id: int) -> None:
    """Fence the relay that serves a sink, before its settings or positions are changed.

    A relay claims it again at once, with its new state.
    """
    db.execute(_FENCE, {"id": sink_id})


def write_start_positions(db: sa.Connection, sink_id: int) -> int:
    """Write a new sink's start position in each existing connection; return how many.

    A connection without a position, such as every later one, starts with its oldest event. If a
    sink starts with a snapshot, the connection's last event is the cut; a connection without events
    has no rows.
    """
    return db.execute(_START_POSITIONS, {"id": sink_id}).rowcount


def list_backlogs(db: sa.Connection, sink: Sink) -> list[Backlog]:
    """Return the connections with a backlog that is due; none if this process lost the sink."""
    found = []
    for row in db.execute(_BACKLOGS, {"id": sink.id, "token": sink.token}):
        connection_id, event_seq, seq, at, snapshot, *about = row
        progress = None if snapshot is None else SnapshotProgress.from_json(snapshot)
        found.append(Backlog(Position(connection_id, seq, at, progress), event_seq, *about))
    return found


def advance_positions(
    db: sa.Connection,
    sink: Sink,
    positions: Iterable[Position],
    *,
    seconds: float,
    delivered: bool = True,
) -> None:
    """Advance all positions or none, and renew the lease. Raises LeaseLost.

    A position that a crash of Postgres loses only repeats a delivery, so there is no wait for the
    disk.
    """
    db.execute(text("set local synchronous_commit = off"))
    values = {"id": sink.id, "token": sink.token, "seconds": seconds, "delivered": delivered}
    if db.execute(_RECORD_DELIVERY, values).rowcount != 1:
        raise LeaseLost(f"sink {sink.name} is served by another process now")
    moved = [
        {
            "id": sink.id,
            "connection_id": one.connection_id,
            "seq": one.seq,
            "at": one.occurred_at,
            "snapshot": one.snapshot and one.snapshot.as_json,
        }
        for one in positions
    ]
    if moved:
        db.execute(_ADVANCE, moved)


def record_sink_failure(
    db: sa.Connection, sink: Sink, *, failures: int, seconds: float, reason: str
) -> None:
    """Record a failed delivery, for operators and for the relay that serves the sink next."""
    values = {"id": sink.id, "token": sink.token, "failures": failures}
    db.execute(_RECORD_FAILURE, {**values, "seconds": seconds, "reason": reason})


def disable_sink(db: sa.Connection, sink: Sink, *, reason: str) -> None:
    """Disable a sink because its receiver wants no events; release the lease, keep its position."""
    db.execute(_DISABLE, {"id": sink.id, "token": sink.token, "reason": reason})
