"""Moving a sink's positions back, so that events are delivered again with the same ids.

Never forward: that would skip events. Whoever serves the sink is fenced first, and claims it again
with what it finds then.
"""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Connection, text

from models.sink import SinkStatus
from worker.core.beginning import Beginning, Numbered, Snapshot, check_scope
from worker.core.errors import Halt, Unknown
from worker.store.dropped import forgive
from worker.store.retries import NOT_REFUSED
from worker.store.sequence import Reach, reaches
from worker.store.sink_admin import sinks_overview
from worker.store.sinks import seize

SETTLING_SECONDS: Final = 6.0
"""By then a relay that was serving the sink has noticed, and ended what it had in hand: else it
would still send events of now between those of then."""

_LOCK = text("""
    select coalesce(expires_at > clock_timestamp(), false) as served
      from events.sinks where id = :id for update
""")
_SETTLE = text("""
    update events.sinks set retry_at = clock_timestamp() + make_interval(secs => :seconds)
     where id = :id
""")
_POSITIONS = text("""
    select l.connection_id, c.provider_config_key || '/' || c.nango_connection_id as label,
           coalesce(p.seq, 0) as seq, p.snapshot is not null as under_way, l.event_seq,
           c.settings -> 'tenant_mirror' -> 'initial_events'
               is distinct from 'false'::jsonb as initial
      from events.sinks s
     cross join sync.leases l
      join sync.connections c on c.id = l.connection_id
      left join events.positions p on p.sink_id = s.id and p.connection_id = l.connection_id
     where s.id = :id and (s.connections is null or l.connection_id = any (s.connections))
       and (cast(:ids as bigint[]) is null or l.connection_id = any (cast(:ids as bigint[])))
     order by l.connection_id
""")
# The first event's own time is early enough: none that follows it is earlier.
_BACK = text(f"""
    update events.positions p
       set seq = :first - 1, updated_at = clock_timestamp(), {NOT_REFUSED},
           occurred_at = (select e.occurred_at from events.change_events e
                           where e.connection_id = :connection_id and e.seq = :first)
     where p.sink_id = :id and p.connection_id = :connection_id and p.seq >= :first
""")
_AGAIN = text(f"""
    insert into events.positions (sink_id, connection_id, seq, occurred_at, snapshot)
    select :id, l.connection_id, l.event_seq, l.last_event_at, '{{}}'::jsonb
      from sync.leases l where l.connection_id = :connection_id
        on conflict (sink_id, connection_id) do update
       set seq = excluded.seq, occurred_at = excluded.occurred_at, updated_at = clock_timestamp(),
           {NOT_REFUSED},
           -- A receiver that was to hear of the end of a snapshot still is.
           snapshot = case when (positions.snapshot -> 'rewound')::boolean
                           then jsonb_build_object('rewound', true) else excluded.snapshot end
""")
_NO_LIMIT = text("set local statement_timeout = 0")
_WANTED = text("""
    select count(*) from events.change_events
     where connection_id = :connection_id and seq between :first and :last
       and (cast(:resources as text[]) is null or resource = any (cast(:resources as text[])))
       and (cast(:changes as text[]) is null or change = any (cast(:changes as text[])))
       and (:initial or not initial)
""")


@dataclass(frozen=True)
class Target:
    """The sink as it is asked to begin again; ``only`` are the connections that are meant."""

    id: int
    name: str
    status: SinkStatus
    resources: list[str] | None
    changes: list[str] | None
    connections: list[int] | None
    initial: bool
    only: frozenset[int] | None = None

    def covers(self, connection_id: int) -> bool:
        return self.connections is None or connection_id in self.connections


@dataclass(frozen=True)
class Again:
    """A connection whose events are delivered again: from ``first`` to ``last``, both included.

    With a snapshot, ``last`` is its cut and ``first`` follows it: no event is delivered again.
    """

    connection_id: int
    label: str
    first: int
    last: int
    initial: bool = True
    """Whether the connection lets the events of its first loads out."""
    oldest: bool = False
    """It begins with the oldest event that is kept, and there were others before."""


@dataclass(frozen=True)
class Left:
    """A connection that is left alone, and why."""

    connection_id: int
    label: str
    why: str
    refused: bool = False
    """Something is to be done about it first."""


@dataclass(frozen=True)
class Plan:
    """What a replay comes to."""

    again: list[Again]
    left: list[Left]


def target(connection: Connection, name: str) -> Target:
    """The sink of that name. Raises Unknown."""
    (row,) = sinks_overview(connection, name)
    return Target(
        id=row["id"],
        name=name,
        status=SinkStatus(row["status"]),
        resources=row["resources"],
        changes=row["changes"],
        connections=row["connections"],
        initial=row["initial"],
    )


def planned(connection: Connection, sink: Target, beginning: Beginning) -> Plan:
    """What a replay would do; nothing is changed. Raises Halt where it makes no sense."""
    check_scope(beginning, sink.only)
    values = {"id": sink.id, "ids": None if sink.only is None else sorted(sink.only)}
    rows = connection.execute(_POSITIONS, values).all()
    if isinstance(beginning, Snapshot):
        return _snapshots(rows)
    found = {
        one.connection_id: one
        for one in reaches(connection, beginning, [row.connection_id for row in rows])
    }
    judged = [_judged(row, found[row.connection_id], beginning) for row in rows]
    return Plan(
        [one for one in judged if isinstance(one, Again)],
        [one for one in judged if isinstance(one, Left)],
    )


def _snapshots(rows: Collection[Any]) -> Plan:
    return Plan(
        [
            Again(row.connection_id, row.label, row.event_seq + 1, row.event_seq)
            for row in rows
            if row.event_seq
        ],
        [
            Left(row.connection_id, row.label, "nothing was mirrored yet")
            for row in rows
            if not row.event_seq
        ],
    )


def _judged(row: Any, reach: Reach, beginning: Beginning) -> Again | Left:
    """What becomes of one connection. Raises Halt for an event that is still to come."""
    one, label = row.connection_id, row.label
    if isinstance(beginning, Numbered) and beginning.seq > reach.last:
        raise Halt(
            f"event {beginning.seq:,} of {label} is still to come; the last is {reach.last:,}"
        )
    if row.under_way:
        return Left(
            one,
            label,
            "a snapshot is under way; wait for its end, or begin it anew with '--from snapshot'",
            refused=True,
        )
    if reach.first > reach.last:
        return Left(one, label, "it has no event since then")
    if reach.first > row.seq:
        return Left(one, label, f"event {row.seq + 1:,} is next, which is no later than that")
    kept = reach.first == reach.oldest > 1
    return Again(one, label, reach.first, row.seq, row.initial, kept)


def replay(connection: Connection, sink: Target, beginning: Beginning) -> Plan:
    """Move the positions; what came of it. Raises Halt, and Unknown where the sink is gone."""
    locked = connection.execute(_LOCK, {"id": sink.id}).one_or_none()
    if locked is None:
        raise Unknown(f"sink '{sink.name}' was removed meanwhile")
    # Under the lock no relay moves a position: what is planned now is what happens.
    plan = planned(connection, sink, beginning)
    if plan.again:
        seize(connection, sink.id)
        if locked.served:
            connection.execute(_SETTLE, {"id": sink.id, "seconds": SETTLING_SECONDS})
        statement = _AGAIN if isinstance(beginning, Snapshot) else _BACK
        connection.execute(
            statement,
            [
                {"id": sink.id, "connection_id": one.connection_id, "first": one.first}
                for one in plan.again
            ],
        )
    if isinstance(beginning, Snapshot):
        forgive(connection, sink.id, [one.connection_id for one in plan.again])
    return plan


def counted(connection: Connection, sink: Target, plan: Plan) -> dict[int, int]:
    """How many events are delivered again, by connection: those that the sink wants."""
    connection.execute(_NO_LIMIT)
    return {one.connection_id: _count(connection, sink, one) for one in plan.again}


def _count(connection: Connection, sink: Target, one: Again) -> int:
    initial = sink.initial and one.initial
    if sink.resources is None and sink.changes is None and initial:
        return one.last - one.first + 1
    values = {
        "connection_id": one.connection_id,
        "first": one.first,
        "last": one.last,
        "resources": sink.resources,
        "changes": sink.changes,
        "initial": initial,
    }
    return int(connection.execute(_WANTED, values).scalar_one())
