"""Claims of ticks, and the correction of timers after Postgres's clock was set back.

Tick messages may come late, twice, or by the thousands after an outage. Only this module decides
which are late, by one clock: Postgres's.
"""

from typing import Final

import sqlalchemy as sa
from sqlalchemy import TextClause, text

CLOCK_STEP_SECONDS: Final = 1.0
"""Smallest step back that is corrected; smaller ones pass by waiting."""

_TURN = text("""
    with before as (
        select extract(epoch from updated_at - clock_timestamp())::float8 as ahead
          from sync.service_state where name = 'tick-turn'),
    turn as (
        insert into sync.service_state (name, updated_at) values ('tick-turn', clock_timestamp())
        on conflict (name) do update set updated_at = excluded.updated_at
         where service_state.updated_at not between
               clock_timestamp() - make_interval(secs => :seconds) and clock_timestamp()
     returning name)
    select coalesce((select ahead from before), 0) as ahead from turn
""")
_FENCE = text("""
    with held as (
        select connection_id from sync.leases where expires_at > clock_timestamp()
           for update skip locked),
    fenced as (
        update sync.leases l set token = token + 1, holder = null, expires_at = null
          from held where l.connection_id = held.connection_id returning l.connection_id)
    update sync.connections c set due_at = least(c.due_at, clock_timestamp())
      from fenced where c.id = fenced.connection_id and c.status in ('active', 'broken')
""")
_TIMERS: Final = (
    ("sync.connections", "due_at"),
    ("sync.connections", "waiting_since"),
    ("sync.streams", "due_at"),
    ("sync.streams", "full_due_at"),
    ("sync.quarantine", "retry_at"),
    ("sync.unresolved", "retry_at"),
    ("sync.workers", "seen_at"),
    ("sync.service_state", "updated_at"),
    ("events.sinks", "retry_at"),
    ("events.sinks", "expires_at"),
    ("events.positions", "retry_at"),
)
"""Columns with due times, or with times from which an age is computed."""


def claim_tick(db: sa.Connection, seconds: float) -> float | None:
    """Claim a tick. Return None if one was claimed within ``seconds``.

    Otherwise return the seconds by which Postgres's clock was set back since the last tick, or 0.
    """
    row = db.execute(_TURN, {"seconds": seconds}).one_or_none()
    if row is None:
        return None
    return float(row.ahead) if row.ahead > CLOCK_STEP_SECONDS else 0.0


def shift_timers_back(db: sa.Connection, seconds: float) -> None:
    """Shift all due times after Postgres's clock was set back, so that nothing waits longer.

    Running slices use the earlier time, so they are fenced and their connections are due at once.
    A slice that is just committing a page is not fenced: its streams may wait longer once.
    """
    db.execute(_FENCE)
    for table, column in _TIMERS:
        db.execute(_render_shift(table, column), {"seconds": seconds})


def _render_shift(table: str, column: str) -> TextClause:
    return text(f"""
        update {table} set {column} = {column} - make_interval(secs => :seconds)
         where ctid = any(array(
               select ctid from {table} where {column} > clock_timestamp() for update skip locked))
    """)
