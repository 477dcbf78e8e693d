"""Pauses of connections by operators: who, when, why, until when.

A pause is apart from ``enabled`` in Nango, and no discovery changes it. It belongs to the
connection's row, so it survives while the connection is retired and returns.
"""

from collections.abc import Sequence
from datetime import datetime

import sqlalchemy as sa
from sqlalchemy import func, select, text, update

from models.connection import connections
from worker.store.state.connections import SYNCED_STATUSES, Connection, get_connections

_EXPIRED = text("""
    select id from sync.connections
     where operator_paused_at is not null and operator_paused_until <= clock_timestamp()
     order by id limit :limit for update skip locked
""")
_OPEN_RUNS = text("""
    select c.id from sync.connections c
      join sync.runs r on r.connection_id = c.id and r.state = 'running'
      left join sync.leases l on l.connection_id = c.id
     where c.operator_paused_at is not null
       and coalesce(l.expires_at < clock_timestamp(), true)
     order by c.id limit :limit
""")
_LOCK_UNHELD = text("""
    select l.connection_id from sync.leases l join sync.connections c on c.id = l.connection_id
     where l.connection_id = :id and c.operator_paused_at is not null
       and coalesce(l.expires_at < clock_timestamp(), true)
       for update of l skip locked
""")
BATCH = 200
"""Connections that one call takes at most."""


def pause_connection(
    db: sa.Connection, connection_id: int, *, by: str, reason: str | None, until: datetime | None
) -> None:
    """Pause the syncs of a connection, or replace its pause; a running slice ends by itself."""
    db.execute(
        update(connections)
        .where(connections.c.id == connection_id)
        .values(
            operator_paused_at=func.coalesce(
                connections.c.operator_paused_at, func.clock_timestamp()
            ),
            operator_paused_by=by,
            operator_pause_reason=reason,
            operator_paused_until=until,
        )
    )


def resume_connections(db: sa.Connection, ids: Sequence[int]) -> None:
    """End the pauses of connections; those in use are due at once."""
    is_synced = connections.c.status.in_(SYNCED_STATUSES)
    db.execute(
        update(connections)
        .where(connections.c.id.in_(ids), connections.c.operator_paused_at.is_not(None))
        .values(
            operator_paused_at=None,
            operator_paused_by=None,
            operator_pause_reason=None,
            operator_paused_until=None,
            due_at=sa.case((is_synced, func.clock_timestamp()), else_=connections.c.due_at),
            waiting_since=None,
        )
    )


def lock_expired_pauses(db: sa.Connection) -> list[Connection]:
    """Return connections whose pause has reached its end, locked for ``resume_connections``."""
    return get_connections(db, db.execute(_EXPIRED, {"limit": BATCH}).scalars())


def is_operator_paused(db: sa.Connection, connection_id: int) -> bool:
    """Whether an operator has paused a connection."""
    statement = select(connections.c.operator_paused_at.is_not(None))
    return bool(db.execute(statement.where(connections.c.id == connection_id)).scalar())


def list_paused_with_open_runs(db: sa.Connection) -> list[int]:
    """Return paused connections whose run is still open, and which no slice holds."""
    return list(db.execute(_OPEN_RUNS, {"limit": BATCH}).scalars())


def lock_if_paused_and_unheld(db: sa.Connection, connection_id: int) -> bool:
    """Lock the lease row of a connection if it is paused and no slice holds it; else False."""
    return db.execute(_LOCK_UNHELD, {"id": connection_id}).first() is not None


def describe_pause(connection: Connection) -> str:
    """Return who has paused a connection, why, and until when."""
    assert connection.operator_paused_at is not None, "only a paused connection is described"
    reason = f" ({connection.operator_pause_reason})" if connection.operator_pause_reason else ""
    until = connection.operator_paused_until
    end = f"until {until:%Y-%m-%d %H:%M} UTC" if until else "until 'tenant-mirror resume'"
    since = f"since {connection.operator_paused_at:%Y-%m-%d %H:%M} UTC"
    return f"{connection.operator_paused_by} has paused it {since}, {end}{reason}"
