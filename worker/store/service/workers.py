"""Reports of workers: the queues they consume and the connections they hold."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from datetime import datetime

import sqlalchemy as sa
from sqlalchemy import text

from worker.core.process.identity import parse_identity, shorten_identity

REPORT_VALID_SECONDS = 15.0
"""Age from which a worker counts as dead: it ended, hangs or is suspended."""

_REPORT = text("""
    insert into sync.workers (name, queues, processes, seen_at)
    values (:name, :queues, :processes, clock_timestamp())
    on conflict (name) do update set queues = excluded.queues, processes = excluded.processes,
                                     seen_at = excluded.seen_at
""")
_DROP_OLD = text("""
    delete from sync.workers where seen_at < clock_timestamp() - interval '1 day'
""")
_LEAVE = text("delete from sync.workers where name = :name")
_DROP_PREDECESSORS = text("""
    delete from sync.workers
     where starts_with(name, :start) and seen_at < clock_timestamp() - make_interval(secs => :alive)
""")
_LIST = text("""
    select w.name, w.queues, cardinality(w.processes) as processes,
           extract(epoch from clock_timestamp() - w.seen_at)::float8 as seconds,
           array(select c.provider_config_key || '/' || c.nango_connection_id
                   from sync.leases l join sync.connections c on c.id = l.connection_id
                  where l.expires_at > clock_timestamp() and l.holder = any(w.processes)
                  order by l.connection_id) as holds,
           w.processes as process_names
      from sync.workers w order by w.name
""")

_HELD = text("""
    select l.holder, c.id, c.provider_config_key || '/' || c.nango_connection_id as label,
           c.display_name, r.trigger, r.started_at,
           extract(epoch from clock_timestamp() - r.started_at)::float8 as seconds
      from sync.leases l join sync.connections c on c.id = l.connection_id
      left join sync.runs r on r.connection_id = c.id and r.state = 'running'
     where l.expires_at > clock_timestamp() and l.holder is not null
     order by r.started_at, c.id
""")


@dataclass(frozen=True)
class HeldConnection:
    """A connection that a process syncs now."""

    holder: str
    id: int
    label: str
    display_name: str | None
    trigger: str | None
    since: datetime | None
    seconds: float | None
    """Seconds since its run began."""


@dataclass(frozen=True)
class Worker:
    """A worker as it last reported."""

    name: str
    """Its node name and pid. Workers in containers of one host name may have the same."""
    queues: list[str]
    processes: int
    seen_seconds_ago: float
    holds: list[str]
    """Connections that its processes are syncing."""
    process_names: list[str] = field(default_factory=list, repr=False)
    """As leases name their holders."""

    @property
    def is_alive(self) -> bool:
        return self.seen_seconds_ago < REPORT_VALID_SECONDS


def report_worker(
    db: sa.Connection, name: str, queues: Sequence[str], processes: Sequence[str]
) -> None:
    """Record that a worker consumes ``queues``; ``processes`` are names of lease holders."""
    values = {"name": name, "queues": list(queues), "processes": list(processes)}
    db.execute(_REPORT, values)
    db.execute(_DROP_OLD)


def remove_worker(db: sa.Connection, name: str) -> None:
    """Record that a worker has stopped consuming."""
    db.execute(_LEAVE, {"name": name})


def remove_predecessors(db: sa.Connection, name: str) -> None:
    """Delete silent workers that have the same node name and pid as the worker ``name``.

    A restarted container has the same node name and pid but a new pid namespace, so only missing
    reports show that its predecessor has ended.
    """
    identity = parse_identity(name)
    if identity is not None:
        values = {"start": f"{identity.host}:{identity.pid}:", "alive": REPORT_VALID_SECONDS}
        db.execute(_DROP_PREDECESSORS, values)


def list_workers(db: sa.Connection) -> list[Worker]:
    """Return the workers that reported within a day, by name."""
    rows = db.execute(_LIST).all()
    return [Worker(shorten_identity(name), *values) for name, *values in rows]


def list_held_connections(db: sa.Connection) -> list[HeldConnection]:
    """Return the connections that are synced now, those that began first first."""
    return [HeldConnection(*row) for row in db.execute(_HELD)]


def list_unserved_queues(workers: Collection[Worker], queues: Sequence[str]) -> list[str]:
    """Return the queues that no live worker consumes."""
    served = {queue for worker in workers if worker.is_alive for queue in worker.queues}
    return [queue for queue in queues if queue not in served]
