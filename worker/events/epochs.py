"""Epochs of sequence numbers, and detection of restored or promoted databases.

A restore or a failover can rewind history; sequence numbers are then reused in a new epoch. It is
detected by comparing recorded facts: the server's system identifier, its timeline, the database's
and the event table's oid. If the server does not reveal one, the others are compared.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Final, NamedTuple

import sqlalchemy as sa
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from worker.core.errors import LeaseLost
from worker.core.log import get_logger
from worker.store.errors import get_sql_state

_READABLE_KEY: Final = "readable facts about the server"
_UNREADABLE_STATES: Final = ("42501", "42883", "0A000", "55000")
"""SQL states: permission denied, undefined function, not supported, wrong state."""

_EXPRESSIONS: Final = {
    "system_identifier": "(pg_catalog.pg_control_system()).system_identifier",
    # The timeline of the current WAL. pg_control_checkpoint() returns that of the last checkpoint,
    # which a promoted server writes minutes later.
    "timeline": (
        "case when not pg_catalog.pg_is_in_recovery() then"
        " ('x' || left(pg_catalog.pg_walfile_name(pg_catalog.pg_current_wal_lsn()), 8))::bit(32)"
        "::bigint end"
    ),
    "database_oid": (
        "(select oid::bigint from pg_catalog.pg_database where datname = current_database())"
    ),
    "events_oid": "'events.change_events'::regclass::oid::bigint",
}
_LOOK: Final = """
    select e.id::text as id, e.started_at, e.reason, pg_is_in_recovery() as standby,
           e.started_at >= pg_postmaster_start_time() as since_start,
           e.system_identifier, e.timeline, e.database_oid, e.events_oid, {seen}
      from events.epochs e order by e.id desc limit 1
"""
CURRENT_EPOCH: Final = "(select e.id::text from events.epochs e order by e.id desc limit 1)"
"""An expression in SQL."""
_CURRENT = text(f"select {CURRENT_EPOCH}")
_RECORD = text("""
    update events.epochs
       set system_identifier = coalesce(:system_identifier, system_identifier),
           timeline = coalesce(:timeline, timeline),
           database_oid = :database_oid, events_oid = :events_oid
     where id = :id
""")
_BEGIN = text("""
    insert into events.epochs
           (id, started_at, reason, system_identifier, timeline, database_oid, events_oid)
    select (lpad(to_hex(greatest((extract(epoch from clock_timestamp()) * 1000)::bigint,
                                 ('x' || left(replace(last.id::text, '-', ''), 12))::bit(48)::bigint
                                 + 1)), 12, '0')
            || '7' || substr(replace(gen_random_uuid()::text, '-', ''), 14))::uuid,
           clock_timestamp(), :reason, :system_identifier, :timeline, :database_oid, :events_oid
      from events.epochs last order by last.id desc limit 1
 returning id::text
""")
_LOCK_EPOCH = text("select pg_advisory_xact_lock(hashtextextended('events epoch', 0))")


class ServerIdentity(NamedTuple):
    """Facts that identify a database's history; None if not known."""

    system_identifier: int | None = None
    timeline: int | None = None
    database_oid: int | None = None
    events_oid: int | None = None


_DIFFERENCES: Final = {
    "system_identifier": "the server has another system identifier: it was restored or upgraded",
    "timeline": "the server is on another timeline: it was promoted, or restored to a moment",
    "database_oid": "the database was created again",
    "events_oid": "the tables were created again",
}


@dataclass(frozen=True)
class Epoch:
    """The current epoch, with the recorded and the observed server identity."""

    id: str
    started_at: datetime
    reason: str | None
    recorded: ServerIdentity
    observed: ServerIdentity
    is_standby: bool
    began_after_server_start: bool
    """Whether the epoch began after the server's last start."""

    @property
    def has_unrecorded_identity(self) -> bool:
        """Whether the server reports a fact that is not recorded yet."""
        pairs = zip(self.recorded, self.observed, strict=True)
        return any(kept is None and now is not None for kept, now in pairs)

    @property
    def rewind_reason(self) -> str | None:
        """Why history may have been rewound; None if no fact differs."""
        return None if self.is_standby else describe_difference(self.recorded, self.observed)


def describe_difference(recorded: ServerIdentity, seen: ServerIdentity) -> str | None:
    """Return how the database differs from the recorded one, or None; ignores unknown facts."""
    for name, kept, now in zip(ServerIdentity._fields, recorded, seen, strict=True):
        if kept is not None and now is not None and kept != now:
            return _DIFFERENCES[name]
    return None


def load_epoch(db: sa.Connection) -> Epoch:
    """Return the current epoch with the server's identity. Cheap enough for every batch."""
    readable = _list_readable_facts(db)
    seen = ", ".join(
        f"{expression if name in readable else 'null::bigint'} as seen_{name}"
        for name, expression in _EXPRESSIONS.items()
    )
    row = db.execute(text(_LOOK.format(seen=seen))).mappings().one()
    return Epoch(
        id=row["id"],
        started_at=row["started_at"],
        reason=row["reason"],
        recorded=ServerIdentity(*(row[name] for name in ServerIdentity._fields)),
        observed=ServerIdentity(*(row[f"seen_{name}"] for name in ServerIdentity._fields)),
        is_standby=row["standby"],
        began_after_server_start=row["since_start"],
    )


def load_epoch_id(db: sa.Connection) -> str:
    """Return the id of the current epoch."""
    return str(db.execute(_CURRENT).scalar_one())


def confirm_epoch(db: sa.Connection, epoch: str) -> None:
    """Raise LeaseLost if data read before in this transaction may be of another epoch."""
    current = load_epoch(db)
    if current.id != epoch:
        raise LeaseLost("a new epoch of the change events has begun")
    if current.rewind_reason:
        raise LeaseLost(f"a new epoch of the change events must begin: {current.rewind_reason}")


def lock_epoch(db: sa.Connection) -> Epoch:
    """Return the current epoch, locked until the transaction ends."""
    db.execute(_LOCK_EPOCH)
    return load_epoch(db)


def record_identity(db: sa.Connection, epoch: Epoch) -> None:
    """Record the facts about the server that were unknown."""
    db.execute(_RECORD, {"id": epoch.id, **epoch.observed._asdict()})


def record_new_identity(db: sa.Connection) -> None:
    """Record unknown facts about the server, before the first event is delivered."""
    epoch = load_epoch(db)
    if epoch.has_unrecorded_identity and not epoch.rewind_reason:
        record_identity(db, epoch)


def begin_epoch(db: sa.Connection, reason: str, seen: ServerIdentity) -> str:
    """Begin a new epoch and return its id, which is greater than all before."""
    values = {"reason": reason, **seen._asdict()}
    return str(db.execute(_BEGIN, values).scalar_one())


def _list_readable_facts(db: sa.Connection) -> frozenset[str]:
    """Return the facts that the role may read, determined once for each session."""
    info = db.info
    if _READABLE_KEY not in info:
        found = {name for name, one in _EXPRESSIONS.items() if _can_read(db, name, one)}
        info[_READABLE_KEY] = frozenset(found)
    facts: frozenset[str] = info[_READABLE_KEY]
    return facts


def _can_read(db: sa.Connection, name: str, expression: str) -> bool:
    try:
        with db.begin_nested():
            db.execute(text(f"select {expression}"))
    except DBAPIError as error:
        if get_sql_state(error) not in _UNREADABLE_STATES:
            raise
        get_logger().info(
            "a fact that identifies the database cannot be read",
            fact=name,
            sql_state=get_sql_state(error),
            hint="run 'tenant-mirror recovered' after a restore or failover",
        )
        return False
    return True
