"""Move a sink's positions back, so that events are delivered again with the same ids.

Never forward: that would skip events. The relay that serves the sink is fenced first; a relay then
claims it again with its new positions.
"""

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy import text

from models.sink import SinkStatus
from worker.core.errors import InvalidInput, NotFound
from worker.delivery.store.admin import list_sinks
from worker.delivery.store.fragments import ALLOWS_INITIAL, WANTS_CONNECTION
from worker.delivery.store.lost_events import forget_lost
from worker.delivery.store.sinks import CLEAR_REFUSAL, fence_sink
from worker.events.resolve_start import ResolvedStart, resolve_start
from worker.events.start import FromSequence, FromSnapshot, StartPosition, check_single_connection

RELAY_STOP_SECONDS: Final = 6.0
"""Seconds after which a fenced relay has noticed and aborted its delivery.

Otherwise it would still send current events among replayed ones.
"""

_LOCK = text("""
    select coalesce(expires_at > clock_timestamp(), false) as served
      from events.sinks where id = :id for update
""")
_SETTLE = text("""
    update events.sinks set retry_at = clock_timestamp() + make_interval(secs => :seconds)
     where id = :id
""")
_POSITIONS = text(f"""
    select l.connection_id, c.provider_config_key || '/' || c.nango_connection_id as label,
           coalesce(p.seq, 0) as seq, p.snapshot is not null as under_way, l.event_seq,
           {ALLOWS_INITIAL} as initial
      from events.sinks s
     cross join sync.leases l
      join sync.connections c on c.id = l.connection_id
      left join events.positions p on p.sink_id = s.id and p.connection_id = l.connection_id
     where s.id = :id and {WANTS_CONNECTION}
       and (cast(:ids as bigint[]) is null or l.connection_id = any (cast(:ids as bigint[])))
     order by l.connection_id
""")
# The first event's own time is early enough: no later event has an earlier time.
_MOVE_BACK = text(f"""
    update events.positions p
       set seq = :first - 1, updated_at = clock_timestamp(), {CLEAR_REFUSAL},
           occurred_at = (select e.occurred_at from events.change_events e
                           where e.connection_id = :connection_id and e.seq = :first)
     where p.sink_id = :id and p.connection_id = :connection_id and p.seq >= :first
""")
_START_SNAPSHOT = text(f"""
    insert into events.positions (sink_id, connection_id, seq, occurred_at, snapshot)
    select :id, l.connection_id, l.event_seq, l.last_event_at, '{{}}'::jsonb
      from sync.leases l where l.connection_id = :connection_id
        on conflict (sink_id, connection_id) do update
       set seq = excluded.seq, occurred_at = excluded.occurred_at, updated_at = clock_timestamp(),
           {CLEAR_REFUSAL},
           -- A receiver that was to hear of the end of a snapshot still is.
           snapshot = case when (positions.snapshot -> 'rewound')::boolean
                           then jsonb_build_object('rewound', true) else excluded.snapshot end
""")
_NO_LIMIT = text("set local statement_timeout = 0")
_COUNT_WANTED = text("""
    select count(*) from events.change_events
     where connection_id = :connection_id and seq between :first and :last
       and (cast(:resources as text[]) is null or resource = any (cast(:resources as text[])))
       and (cast(:changes as text[]) is null or change = any (cast(:changes as text[])))
       and (:initial or not initial)
""")


@dataclass(frozen=True)
class ReplayTarget:
    """The sink to replay; ``connection_ids`` limits the replay to some connections."""

    id: int
    name: str
    status: SinkStatus
    resources: list[str] | None
    changes: list[str] | None
    connections: list[int] | None
    initial: bool
    connection_ids: frozenset[int] | None = None

    def covers(self, connection_id: int) -> bool:
        return self.connections is None or connection_id in self.connections


@dataclass(frozen=True)
class ReplayedConnection:
    """A connection whose events are delivered again: from ``first`` to ``last``, inclusive.

    With a snapshot, ``last`` is its cut and ``first`` follows it: no event is delivered again.
    """

    connection_id: int
    label: str
    first: int
    last: int
    allows_initial: bool = True
    """Whether the connection's settings allow the events of its first loads."""
    from_oldest: bool = False
    """Whether it starts with the oldest kept event although there were older ones."""


@dataclass(frozen=True)
class SkippedConnection:
    """A connection that is not replayed, and why."""

    connection_id: int
    label: str
    reason: str
    needs_action: bool = False
    """Whether an operator has to act first."""


@dataclass(frozen=True)
class ReplayPlan:
    """The effect of a replay."""

    replayed: list[ReplayedConnection]
    skipped: list[SkippedConnection]


def find_replay_target(db: sa.Connection, name: str) -> ReplayTarget:
    """Return the sink of that name. Raises NotFound."""
    (row,) = list_sinks(db, name)
    return ReplayTarget(
        id=row["id"],
        name=name,
        status=SinkStatus(row["status"]),
        resources=row["resources"],
        changes=row["changes"],
        connections=row["connections"],
        initial=row["initial"],
    )


def plan_replay(db: sa.Connection, sink: ReplayTarget, start: StartPosition) -> ReplayPlan:
    """Return what a replay would do.

    Changes nothing. Raises InvalidInput if the start is invalid.
    """
    check_single_connection(start, sink.connection_ids)
    values = {
        "id": sink.id,
        "ids": None if sink.connection_ids is None else sorted(sink.connection_ids),
    }
    rows = db.execute(_POSITIONS, values).all()
    if isinstance(start, FromSnapshot):
        return _plan_snapshots(rows)
    found = {
        one.connection_id: one
        for one in resolve_start(db, start, [row.connection_id for row in rows])
    }
    judged = [_plan_connection(row, found[row.connection_id], start) for row in rows]
    return ReplayPlan(
        [one for one in judged if isinstance(one, ReplayedConnection)],
        [one for one in judged if isinstance(one, SkippedConnection)],
    )


def _plan_snapshots(rows: Collection[Any]) -> ReplayPlan:
    return ReplayPlan(
        [
            ReplayedConnection(row.connection_id, row.label, row.event_seq + 1, row.event_seq)
            for row in rows
            if row.event_seq
        ],
        [
            SkippedConnection(row.connection_id, row.label, "nothing was mirrored yet")
            for row in rows
            if not row.event_seq
        ],
    )


def _plan_connection(
    row: Any, reach: ResolvedStart, start: StartPosition
) -> ReplayedConnection | SkippedConnection:
    """Return the plan for one connection.

    Raises InvalidInput for an event that does not exist yet.
    """
    one, label = row.connection_id, row.label
    if isinstance(start, FromSequence) and start.seq > reach.last:
        raise InvalidInput(
            f"event {start.seq:,} of {label} does not exist yet; the last is {reach.last:,}"
        )
    if row.under_way:
        return SkippedConnection(
            one,
            label,
            "a snapshot is under way; wait for its end, or restart it with '--from snapshot'",
            needs_action=True,
        )
    if reach.start > reach.last:
        return SkippedConnection(one, label, "it has no event since then")
    if reach.start > row.seq:
        return SkippedConnection(
            one, label, f"event {row.seq + 1:,} is next, which is no later than that"
        )
    kept = reach.start == reach.oldest > 1
    return ReplayedConnection(one, label, reach.start, row.seq, row.initial, kept)


def move_positions_back(db: sa.Connection, sink: ReplayTarget, start: StartPosition) -> ReplayPlan:
    """Move the positions and return what was done.

    Raises InvalidInput, and NotFound if the sink is removed.
    """
    locked = db.execute(_LOCK, {"id": sink.id}).one_or_none()
    if locked is None:
        raise NotFound(f"sink '{sink.name}' was removed meanwhile")
    # Under the lock no relay moves a position, so the plan stays valid.
    plan = plan_replay(db, sink, start)
    if plan.replayed:
        fence_sink(db, sink.id)
        if locked.served:
            db.execute(_SETTLE, {"id": sink.id, "seconds": RELAY_STOP_SECONDS})
        statement = _START_SNAPSHOT if isinstance(start, FromSnapshot) else _MOVE_BACK
        db.execute(
            statement,
            [
                {"id": sink.id, "connection_id": one.connection_id, "first": one.first}
                for one in plan.replayed
            ],
        )
    if isinstance(start, FromSnapshot):
        forget_lost(db, sink.id, [one.connection_id for one in plan.replayed])
    return plan


def count_replayed_events(
    db: sa.Connection, sink: ReplayTarget, plan: ReplayPlan, on_counted: Callable[[int], None]
) -> dict[int, int]:
    """Return how many events that the sink wants are delivered again, by connection.

    ``on_counted`` is called after each connection with the number of those that are counted.
    """
    db.execute(_NO_LIMIT)
    counts = {}
    for number, one in enumerate(plan.replayed, 1):
        counts[one.connection_id] = _count_events(db, sink, one)
        on_counted(number)
    return counts


def _count_events(db: sa.Connection, sink: ReplayTarget, one: ReplayedConnection) -> int:
    initial = sink.initial and one.allows_initial
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
    return int(db.execute(_COUNT_WANTED, values).scalar_one())
