"""Facts about the service as a whole that outlive a process."""

import json
from dataclasses import dataclass

import sqlalchemy as sa
from sqlalchemy import text

_NOTE = text("""
    insert into sync.service_state (name, value, updated_at)
    values (:name, cast(:value as jsonb), clock_timestamp())
    on conflict (name) do update set value = excluded.value, updated_at = excluded.updated_at
""")
_AGE = text("""
    select extract(epoch from clock_timestamp() - updated_at) as seconds
      from sync.service_state where name = :name
""")
_CLAIM = text("""
    insert into sync.service_state (name, updated_at) values (:name, clock_timestamp())
    on conflict (name) do update set updated_at = excluded.updated_at
     where service_state.updated_at < clock_timestamp() - make_interval(secs => :seconds)
 returning name
""")
_KEY = text("""
    select extract(epoch from updated_at) as worked_at from sync.service_state
     where name = 'nango-key' and value ->> 'fingerprint' = :fingerprint
""")
_KEY_CHANGED = text("""
    select value ->> 'fingerprint' <> :fingerprint from sync.service_state
     where name = 'nango-key'
""")
_MISSING = text("""
    select value, extract(epoch from clock_timestamp() - cast(value ->> 'since' as timestamptz))
      from sync.service_state where name = 'missing-connections'
""")
_NOTE_MISSING = text("""
    insert into sync.service_state (name, value, updated_at)
    values ('missing-connections',
            cast(:value as jsonb) || jsonb_build_object('since', clock_timestamp()),
            clock_timestamp())
    on conflict (name) do update
       set value = excluded.value || jsonb_build_object('since', service_state.value -> 'since'),
           updated_at = excluded.updated_at
""")
_NONE_MISSING = text("delete from sync.service_state where name = 'missing-connections'")
_HALT = text("select value ->> 'reason' from sync.service_state where name = 'halt'")

HALT_SECONDS = 60
"""How long nobody asks Nango after it said that our configuration is wrong."""


def note_tick(db: sa.Connection) -> None:
    """The dispatcher is alive."""
    db.execute(_NOTE, {"name": "tick", "value": "{}"})


def get_fact_age(db: sa.Connection, name: str) -> float | None:
    """Seconds since a fact was noted; None where it never was."""
    seconds = db.execute(_AGE, {"name": name}).scalar()
    return None if seconds is None else float(seconds)


def claim_discovery(db: sa.Connection, seconds: float) -> bool:
    """Whether it is time to read Nango's list; says so to one caller only."""
    return db.execute(_CLAIM, {"name": "discover", "seconds": seconds}).first() is not None


def note_halt(db: sa.Connection, reason: str) -> None:
    """Our own configuration is wrong: everything stops asking for a while."""
    db.execute(_NOTE, {"name": "halt", "value": json.dumps({"reason": reason})})


def note_key(db: sa.Connection, fingerprint: str) -> None:
    """Nango has accepted the key that the fingerprint stands for."""
    value = json.dumps({"fingerprint": fingerprint})
    db.execute(_NOTE, {"name": "nango-key", "value": value})


def get_key_accepted_at(db: sa.Connection, fingerprint: str) -> float | None:
    """When Nango is known to have accepted this key, in Unix seconds; None: never."""
    found = db.execute(_KEY, {"fingerprint": fingerprint}).scalar()
    return None if found is None else float(found)


def is_key_changed(db: sa.Connection, fingerprint: str) -> bool:
    """Whether Nango's list was last followed with another key, or at another address."""
    found = db.execute(_KEY_CHANGED, {"fingerprint": fingerprint})
    return bool(found.scalar())


@dataclass(frozen=True)
class MissingConnections:
    """Connections that Nango's list lacks, too many at once to be believed."""

    reason: str
    ids: tuple[int, ...]
    seconds: float = 0.0
    """Since when they are held."""


def note_missing(db: sa.Connection, missing: MissingConnections | None) -> None:
    """Keep what is held, from the time when it was first held; None: nothing is."""
    if missing is None:
        db.execute(_NONE_MISSING)
        return
    value = {"reason": missing.reason, "ids": missing.ids}
    db.execute(_NOTE_MISSING, {"value": json.dumps(value)})


def load_missing_connections(db: sa.Connection) -> MissingConnections | None:
    """The connections that are held instead of retired, if any."""
    row = db.execute(_MISSING).one_or_none()
    if row is None:
        return None
    value, seconds = row
    return MissingConnections(value["reason"], tuple(value["ids"]), float(seconds))


def is_halted(db: sa.Connection) -> bool:
    age = get_fact_age(db, "halt")
    return age is not None and age < HALT_SECONDS


def get_halt_reason(db: sa.Connection) -> str | None:
    """Why everything has stopped asking, where it has."""
    if not is_halted(db):
        return None
    reason = db.execute(_HALT).scalar()
    return None if reason is None else str(reason)
