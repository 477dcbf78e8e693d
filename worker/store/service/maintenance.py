"""When housekeeping is due, by what the database remembers of the last time.

No clock of beat is asked: one that is restarted often would never come to an hour. A message that
is lost is sent again, and one that comes late or twice begins nothing.
"""

from typing import Final

import sqlalchemy as sa
from sqlalchemy import text

INTERVAL_SECONDS: Final = 3600
"""From the end of one run to the next."""

RUN_SECONDS: Final = 360
"""Longer than any run: Celery ends it sooner. One that has not ended by then was killed."""

RESEND_SECONDS: Final = 120
"""After this, a message that began nothing counts as lost."""

# A moment in the future, from before a clock was set back, is no reason to wait for it.
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
# On a conflict the row is read as it is then, so of two at a time one is let through.
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
    """Whether it is time to send the message; says so to one tick only."""
    return db.execute(_SEND).first() is not None


def start_maintenance(db: sa.Connection) -> bool:
    """Whether it is due and nobody is at it; says so to one process only, which is at it then."""
    return db.execute(_START).first() is not None


def finish_maintenance(db: sa.Connection) -> None:
    """It is done until the interval is over."""
    db.execute(_FINISH)
