"""Whose turn it is to run a tick, and what is done once Postgres's clock was set back.

A message for a tick may come late, doubled, or in a pile of thousands after an outage. What is
late is seen here and nowhere else, by one clock: Postgres's.
"""

from typing import Final

import sqlalchemy as sa
from sqlalchemy import TextClause, text

CLOCK_STEP_SECONDS: Final = 1.0
"""Less is waited for."""

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
"""Times that are waited for, or that an age counts from."""


def claim_tick(db: sa.Connection, seconds: float) -> float | None:
    """Take the turn of a tick, unless one was taken within ``seconds``. None: it was.

    Otherwise the seconds by which Postgres's clock was set back since the last one, 0 for none.
    """
    row = db.execute(_TURN, {"seconds": seconds}).one_or_none()
    if row is None:
        return None
    return float(row.ahead) if row.ahead > CLOCK_STEP_SECONDS else 0.0


def shift_timers_back(db: sa.Connection, seconds: float) -> None:
    """Postgres's clock was set back: have nothing wait until it is as late again as it was.

    Slices under way reckon by the time before, so they are fenced and due at once. One that is
    committing a page right now is not: its streams may wait longer, once.
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
