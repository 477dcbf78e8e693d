"""Facts about the service as a whole, stored beyond the life of a process."""

import json
from dataclasses import dataclass

import sqlalchemy as sa
from sqlalchemy import text

_NOTE = text("""
    insert into sync.service_state (name, value, updated_at)
    values (:name, cast(:value as jsonb), clock_timestamp())
    on conflict (name) do update set value = excluded.value, updated_at = excluded.updated_at
""")
_NOTE_TICK = text("""
    insert into sync.service_state (name, value, updated_at)
    values ('tick', '{}', clock_timestamp())
    on conflict (name) do update set updated_at = excluded.updated_at
""")
_NOTE_SENT = text("""
    update sync.service_state set value = jsonb_strip_nulls(jsonb_build_object(
               'sent_at', case when :sent then to_jsonb(extract(epoch from clock_timestamp()))
                               else value -> 'sent_at' end,
               'held_back', cast(:held_back as text)))
     where name = 'tick'
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
_MAKE_DUE = text("delete from sync.service_state where name = :name")
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
_END_HALT = text("delete from sync.service_state where name = 'halt'")

HALT_SECONDS = 60
"""How long no process calls Nango after a response that the configuration is wrong."""


def note_tick(db: sa.Connection) -> None:
    """Record that a tick ran."""
    db.execute(_NOTE_TICK)


def note_sent(db: sa.Connection, *, sent: bool, held_back: str | None) -> None:
    """Record whether the tick sends due connections, or why it may send none."""
    db.execute(_NOTE_SENT, {"sent": sent, "held_back": held_back})


def get_fact_age(db: sa.Connection, name: str) -> float | None:
    """Return the seconds since a fact was recorded; None if it never was."""
    seconds = db.execute(_AGE, {"name": name}).scalar()
    return None if seconds is None else float(seconds)


def claim_discovery(db: sa.Connection, seconds: float) -> bool:
    """Whether it is time to read Nango's list; true for one caller per interval."""
    return db.execute(_CLAIM, {"name": "discover", "seconds": seconds}).first() is not None


def request_discovery(db: sa.Connection) -> None:
    """Let the next tick read Nango's list."""
    db.execute(_MAKE_DUE, {"name": "discover"})


def note_halt(db: sa.Connection, reason: str) -> None:
    """Record that the configuration is wrong: all calls pause for ``HALT_SECONDS``."""
    db.execute(_NOTE, {"name": "halt", "value": json.dumps({"reason": reason})})


def end_halt(db: sa.Connection) -> None:
    """End the halt: its cause, a key that Nango refused, is no longer in use."""
    db.execute(_END_HALT)


def note_key(db: sa.Connection, fingerprint: str) -> None:
    """Record that Nango has accepted the key with this fingerprint."""
    value = json.dumps({"fingerprint": fingerprint})
    db.execute(_NOTE, {"name": "nango-key", "value": value})


def get_key_accepted_at(db: sa.Connection, fingerprint: str) -> float | None:
    """Return when Nango last accepted this key, in Unix seconds; None if it never did."""
    found = db.execute(_KEY, {"fingerprint": fingerprint}).scalar()
    return None if found is None else float(found)


def is_key_changed(db: sa.Connection, fingerprint: str) -> bool:
    """Whether Nango's list was last read with another key, or from another address."""
    found = db.execute(_KEY_CHANGED, {"fingerprint": fingerprint})
    return bool(found.scalar())


@dataclass(frozen=True)
class MissingConnections:
    """Connections that Nango's list lacks: too many at once to be plausible."""

    reason: str
    ids: tuple[int, ...]
    seconds: float = 0.0
    """Seconds since they were first held."""


def note_missing(db: sa.Connection, missing: MissingConnections | None) -> None:
    """Store which connections are held, keeping the time of the first; None clears them."""
    if missing is None:
        db.execute(_NONE_MISSING)
        return
    value = {"reason": missing.reason, "ids": missing.ids}
    db.execute(_NOTE_MISSING, {"value": json.dumps(value)})


def load_missing_connections(db: sa.Connection) -> MissingConnections | None:
    """Return the connections that are held instead of retired, if any."""
    row = db.execute(_MISSING).one_or_none()
    if row is None:
        return None
    value, seconds = row
    return MissingConnections(value["reason"], tuple(value["ids"]), float(seconds))


def is_halted(db: sa.Connection) -> bool:
    age = get_fact_age(db, "halt")
    return age is not None and age < HALT_SECONDS
