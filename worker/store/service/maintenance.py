"""Schedule of the hourly maintenance, kept in the database.

Beat's clock is not used: a beat that restarts often would never reach an hour. A lost message is
sent again; a late or duplicate one starts nothing.
"""

from typing import Final

import sqlalchemy as sa
from sqlalchemy import text

INTERVAL_SECONDS: Final = 3600
"""From the end of one run to the start of the next."""

RUN_SECONDS: Final = 360
"""Longer than any run, as Celery's time limit is shorter: later, a run counts as killed."""

RESEND_SECONDS: Final = 120
"""Time after which a message that started no run counts as lost."""

# A time in the future, from before the clock was set back, counts as not recent.
_RECENT: Final = "between clock_timestamp() - make_interval(secs => {}) and clock_timestamp()"
_DUE: Final = f"""
    not exists (select from sync.service_state
                 where name = 'housekeeping-finished'
                   and updated_at {_RECENT.format(INTERVAL_SECONDS)})
    and not exists (select from sync.service_state begun
                     where begun.name = 'housekeeping-started'
                       and begun.updated_at {_RECENT.format(RUN_SECONDS)}
                       and not exists (select from sync.service_state ended
                                        where ended.name = 'housekeeping-finished'
                                          and ended.updated_at >= begun.updated_at))
"""
# On a conflict Postgres rereads the row, so only one of two concurrent callers succeeds.
_SEND: Final = text(f"""
    insert into sync.service_state (name, updated_at)
    select 'housekeeping-sent', clock_timestamp() where {_DUE}
    on conflict (name) do update set updated_at = excluded.updated_at
     where service_state.updated_at not {_RECENT.format(RESEND_SECONDS)}
 returning name
""")
_START: Final = text(f"""
    insert into sync.service_state (name, updated_at)
    select 'housekeeping-started', clock_timestamp() where {_DUE}
    on conflict (name) do update set updated_at = excluded.updated_at
     where service_state.updated_at not {_RECENT.format(RUN_SECONDS)}
        or exists (select from sync.service_state ended
                    where ended.name = 'housekeeping-finished'
                      and ended.updated_at >= service_state.updated_at)
 returning name
""")
_FINISH: Final = text("""
    insert into sync.service_state (name, updated_at)
    values ('housekeeping-finished', clock_timestamp())
    on conflict (name) do update set updated_at = excluded.updated_at
""")


def claim_maintenance_message(db: sa.Connection) -> bool:
    """Whether it is time to send the message; true for one tick only."""
    return db.execute(_SEND).first() is not None


def start_maintenance(db: sa.Connection) -> bool:
    """Whether maintenance is due and not running; true for one process, which must run it."""
    return db.execute(_START).first() is not None


def finish_maintenance(db: sa.Connection) -> None:
    """Record the end of the run: the next is due after ``INTERVAL_SECONDS``."""
    db.execute(_FINISH)
