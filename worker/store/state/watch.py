"""Progress of all connections, for commands that watch the service."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy import text

from models.base import DIRECTORY
from worker.store.state.claims import IS_SYNCED

_STATE = text(f"""
    select c.id, coalesce(c.display_name, c.nango_connection_id) as name, c.status,
           c.status_reason,
           (select jsonb_object_agg(resource, jsonb_build_array(phase, seen_count))
              from sync.streams s where s.connection_id = c.id) as streams,
           (select count(*) from sync.runs r where r.connection_id = c.id
               and r.finished_at >= :since) as finished,
           not exists (select from sync.runs r where r.connection_id = c.id
                          and r.finished_at is not null) as is_first
      from sync.connections c
     where {IS_SYNCED} order by c.id
""")
_RUNS = text("""
    select connection_id, sum(calls) as calls, sum(objects) as objects,
           extract(epoch from max(coalesce(finished_at, now())) - min(started_at)) as seconds,
           (array_agg(state order by id desc))[1] as state
      from sync.runs r where started_at >= :since and id <= (
           select min(ended.id) from sync.runs ended
            where ended.connection_id = r.connection_id and ended.finished_at >= :since)
     group by connection_id
""")
"""Counts runs up to the first that ended: small tenants run again while a large one loads."""

_POSITIONS = text("""
    select l.connection_id, l.event_seq, coalesce(c.display_name, c.nango_connection_id)
      from sync.leases l join sync.connections c on c.id = l.connection_id
     order by l.connection_id
""")

_DUE = text(f"""
    select c.id from sync.connections c
     where {IS_SYNCED}
       and c.due_at <= clock_timestamp() + make_interval(secs => :soon)
""")


def load_due_ids(db: sa.Connection, soon_seconds: float) -> frozenset[int]:
    """Return the connections that are due within ``soon_seconds``."""
    return frozenset(db.execute(_DUE, {"soon": soon_seconds}).scalars())


def load_first_load_progress(db: sa.Connection, since: datetime) -> list[Mapping[str, Any]]:
    """Return the state of each connection, with the number of runs that ended ``since``."""
    return [dict(row) for row in db.execute(_STATE, {"since": since}).mappings()]


def load_run_totals(db: sa.Connection, since: datetime) -> dict[int, dict[str, Any]]:
    """Return calls, objects, seconds and state of each connection's runs ``since``."""
    rows = db.execute(_RUNS, {"since": since}).mappings()
    return {row["connection_id"]: dict(row) for row in rows}


def load_last_events(db: sa.Connection) -> list[tuple[int, int, str]]:
    """Return id, last event sequence and name of each connection."""
    return [(row[0], row[1], row[2]) for row in db.execute(_POSITIONS)]


def count_live_rows(db: sa.Connection, table: str, ids: list[int]) -> dict[int, int]:
    """Return the number of live rows of a mirrored table for each connection in ``ids``."""
    statement = text(
        f"select connection_id, count(*) from {DIRECTORY}.{table}"
        " where connection_id = any(:ids) and deleted_at is null group by connection_id"
    )
    return {row[0]: row[1] for row in db.execute(statement, {"ids": ids})}
