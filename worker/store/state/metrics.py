"""Counts over all connections, for metrics. No query's cost grows with a tenant's rows."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import sqlalchemy as sa
from sqlalchemy import TextClause, text

from models.stream import NOT_LICENSED_PHASE, OFF_PHASE
from worker.store.first_id import render_first_id
from worker.store.state.claims import IS_SYNCED
from worker.store.state.streams import SHOWN_PHASE

_BRIEF: Final = text("set local statement_timeout = '10s'")
_CONNECTIONS = text("select status, count(*) from sync.connections group by status")
_OVERDUE = text(f"""
    select count(*)
      from sync.connections c left join sync.leases l on l.connection_id = c.id
     where {IS_SYNCED}
       and least(c.due_at, c.waiting_since, c.requested_at)
           < clock_timestamp() - make_interval(secs => :seconds)
       and (l.expires_at is null or l.expires_at < clock_timestamp())
""")
_FAILING = text(f"""
    select count(*)
      from sync.connections c
     cross join lateral (
           select state from sync.runs r
            where r.connection_id = c.id and r.state <> 'running'
            order by r.id desc limit 1) newest
     where {IS_SYNCED} and newest.state = 'failed'
""")
_STREAMS = text(f"""
    select s.resource, {SHOWN_PHASE} as phase, count(*)
      from sync.streams s join sync.connections c on c.id = s.connection_id
     where c.status in ('active', 'broken', 'paused') group by 1, 2
""")
_AGES = text(f"""
    select f.resource, width_bucket(f.age, cast(:bounds as float8[])) as bucket,
           max(f.age) as oldest, count(*) as number, count(*) filter (where f.is_late) as late
      from (select *, extract(epoch from clock_timestamp() - fresh_at)::float8 as age
              from analytics.freshness) f
      join sync.connections c on c.id = f.connection_id
     where {IS_SYNCED} and f.phase not in ('{NOT_LICENSED_PHASE}', '{OFF_PHASE}')
     group by f.resource, bucket
""")
_AGO = "clock_timestamp() - make_interval(secs => :seconds)"
_RUNS = text(f"""
    select state, count(*) from sync.runs
     where id >= {render_first_id("sync.runs", "started_at", _AGO)} group by state
""")
_LATE = text("""
    select count(distinct f.connection_id)
      from analytics.freshness f join sync.connections c on c.id = f.connection_id
     where c.status in ('active', 'broken') and f.is_late
""")
_UNRESOLVED = text("select resource, count(*) from sync.unresolved group by resource")
_QUARANTINED = text(
    "select resource, count(*) from sync.quarantine where kept_apart group by resource"
)
_INEXACT = text(
    "select resource, count(*) from sync.quarantine where not kept_apart group by resource"
)
_HELD = text("select resource, count(*) from sync.removals where held group by resource")


def set_statement_timeout(db: sa.Connection) -> None:
    """Limit statements to 10 seconds for the rest of the transaction.

    Statements that take longer raise RetryLater.
    """
    db.execute(_BRIEF)


def count_connections_by_status(db: sa.Connection) -> dict[str, int]:
    return _load_counts(db, _CONNECTIONS)


def count_overdue_connections(db: sa.Connection, seconds: float) -> int:
    """Return how many connections have been due for so long without a finished or running slice.

    A claim alone does not count as progress: perhaps no worker serves it.
    """
    return int(db.execute(_OVERDUE, {"seconds": seconds}).scalar_one())


def count_failing_connections(db: sa.Connection) -> int:
    """Return how many synced connections have a failed last run, however old it is."""
    return int(db.execute(_FAILING).scalar_one())


def count_streams_by_phase(db: sa.Connection) -> dict[tuple[str, str], int]:
    """Return the numbers of streams of active, broken and paused connections, by shown phase."""
    found = db.execute(_STREAMS)
    return {(resource, phase): number for resource, phase, number in found}


@dataclass
class Freshness:
    """Freshness of a resource over all synced connections, as in ``analytics.freshness``.

    Those without a licence for it, or where it is off, count in none of the numbers.
    """

    by_age: list[int]
    """Connections where it is younger than each bound, and all connections."""
    oldest_seconds: float | None = None
    """Seconds since the oldest rows were read; None if none were."""
    never_read: int = 0
    """Connections where it was never read completely."""
    late: int = 0
    """Connections where it is older than its interval allows, or was never read."""


def load_freshness(db: sa.Connection, bounds: Sequence[float] = ()) -> dict[str, Freshness]:
    """Return the freshness of every resource; ``bounds`` are ages in seconds, ascending."""
    found: dict[str, Freshness] = {}
    for row in db.execute(_AGES, {"bounds": list(bounds)}):
        one = found.setdefault(row.resource, Freshness(by_age=[0] * (len(bounds) + 1)))
        one.late += row.late
        if row.bucket is None:
            one.never_read += row.number
        else:
            one.oldest_seconds = max(one.oldest_seconds or 0.0, row.oldest)
        for place in range(len(bounds) if row.bucket is None else row.bucket, len(bounds) + 1):
            one.by_age[place] += row.number
    return found


def count_late_connections(db: sa.Connection) -> int:
    """Return how many synced connections have a resource that is late."""
    return int(db.execute(_LATE).scalar_one())


def count_runs_by_state(db: sa.Connection, seconds: float) -> dict[str, int]:
    """Return the numbers of runs that started in the last ``seconds``."""
    return _load_counts(db, _RUNS, seconds=seconds)


def count_quarantined_objects(db: sa.Connection) -> dict[str, int]:
    return _load_counts(db, _QUARANTINED)


def count_unresolved_parts(db: sa.Connection) -> dict[str, int]:
    return _load_counts(db, _UNRESOLVED)


def count_inexact_objects(db: sa.Connection) -> dict[str, int]:
    """Return the numbers of objects with values that are not stored as they were sent."""
    return _load_counts(db, _INEXACT)


def count_held_deletions(db: sa.Connection) -> dict[str, int]:
    return _load_counts(db, _HELD)


def _load_counts(db: sa.Connection, statement: TextClause, **values: float) -> dict[str, int]:
    return {row[0]: row[1] for row in db.execute(statement, values)}
