"""Nango's list of connections against ours: enrol the new, retire the vanished.

What is decided here is decided again under the connection's lock: a slice may have moved it
meanwhile.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec
from sqlalchemy import Connection, func

from models.change_event import ConnectionChange
from models.connection import ConnectionStatus
from worker.core.settings import MICROSOFT_PROVIDERS, Settings
from worker.events.ledger import tell_connection
from worker.nango.client import NangoClient
from worker.nango.connections import Listed, list_connections
from worker.store.connections import FAILING, IN_USE, Known, all_connections, change_connection, get
from worker.store.engine import Database
from worker.store.enrolment import enrol
from worker.store.lease import Transaction, interrupting, joining
from worker.store.service import (
    MissingConnections,
    is_key_changed,
    note_key,
    note_missing,
)
from worker.sync.ending import change_status
from worker.sync.guard import too_many_missing
from worker.sync.key_memory import recall_key
from worker.sync.policy import METADATA_KEY, Policy, customised
from worker.sync.vanished import missing, retire_vanished

CONFIRMED_AT_ONCE: Final = 20
"""Missing connections that one discovery asks for; an empty list must not cost a call each."""


@dataclass
class Discovery:
    """What a reading of Nango's list led to, by label."""

    listed: int = 0
    enrolled: list[str] = field(default_factory=list)
    returned: list[str] = field(default_factory=list)
    retired: list[str] = field(default_factory=list)
    paused: list[str] = field(default_factory=list)
    woken: list[str] = field(default_factory=list)
    """Duplicates whose tenant nobody mirrors any more, and broken ones that Nango says are well."""
    problems: dict[str, str] = field(default_factory=dict)
    unreadable: int = 0
    """Rows of the list that make no sense."""
    held: str | None = None
    """Why the missing connections are not even asked for: too many are missing at once."""
    unconfirmed: int = 0
    """Connections that are missing from the list and not asked for yet."""


@dataclass(frozen=True)
class _Wanted:
    """What Nango says of a connection, as far as it is for us."""

    metadata: Any
    policy: Policy
    problem: str | None
    failing: bool

    @classmethod
    def of(cls, row: Listed) -> "_Wanted":
        metadata = (row.metadata or {}).get(METADATA_KEY)
        if b"\\u0000" in msgspec.json.encode(metadata):
            problem = f"metadata key {METADATA_KEY} holds a NUL, which Postgres cannot keep"
            return cls(None, Policy(), problem, row.failing)
        return cls(metadata, *customised(Policy(), metadata), row.failing)

    @property
    def columns(self) -> dict[str, Any]:
        kept = {} if self.metadata is None else {METADATA_KEY: self.metadata}
        return {
            "settings": kept | ({FAILING: True} if self.failing else {}),
            "settings_problem": self.problem,
        }

    def is_known(self, known: Known) -> bool:
        """Whether it makes no difference to what was kept the last time."""
        policy, _ = customised(Policy(), known.settings.get(METADATA_KEY))
        kept = (policy, known.settings_problem, known.settings.get(FAILING, False))
        return kept == (self.policy, self.problem, self.failing)


def discover(database: Database, nango: NangoClient, settings: Settings) -> Discovery:
    """Read Nango's list once and follow it. Raises Halt, Later, Away."""
    with database.begin() as connection:
        recall_key(connection, nango)
    listing = list_connections(nango)
    ours = [row for row in listing.rows if _ours(row, settings)]
    done = Discovery(listed=len(ours), unreadable=listing.unreadable)
    present = {str(row.address) for row in listing.rows}
    with database.begin() as connection:
        known = _by_label(all_connections(connection))
        absent = missing(known.values(), present)
        used = sum(not one.is_retired for one in known.values())
        done.held = _held(connection, nango, settings, absent, used)
        strange = done.held is not None and len(absent) == used
        if not strange:
            note_key(connection, nango.gate.fingerprint)
    done.unconfirmed = len(absent)
    if strange:
        return done  # this may be the list of another environment: nothing of it is followed
    for row in reversed(ours):
        _follow(database, known.get(str(row.address)), row, done)
    if done.held is None:
        vanished = retire_vanished(database, nango, absent, at_once=CONFIRMED_AT_ONCE)
        done.retired, done.unconfirmed = vanished.retired, vanished.unconfirmed
    _wake_duplicates(database, present, done)
    return done


def _held(
    connection: Connection, nango: NangoClient, settings: Settings, absent: list[Known], used: int
) -> str | None:
    """Why the missing connections are held instead of retired, which is noted for operators."""
    reason = too_many_missing(
        len(absent),
        used,
        floor=settings.guard_connections,
        percent=settings.guard_connections_percent,
        new_key=is_key_changed(connection, nango.gate.fingerprint),
    )
    ids = tuple(one.id for one in absent)
    note_missing(connection, MissingConnections(reason, ids) if reason else None)
    return reason


def _ours(row: Listed, settings: Settings) -> bool:
    if settings.nango_integrations:
        return row.provider_config_key in settings.nango_integrations
    return row.provider in MICROSOFT_PROVIDERS


def _by_label(found: Iterable[Known]) -> dict[str, Known]:
    """One connection an address. Retired ones may share it with whoever took their place.

    The one in use goes first, then one that knows its tenant, then the oldest.
    """
    best: dict[str, Known] = {}
    for one in sorted(found, key=lambda one: (one.is_retired, one.tenant_id is None, one.id)):
        if not one.is_going:
            best.setdefault(one.label, one)
    return best


def _follow(database: Database, known: Known | None, row: Listed, done: Discovery) -> None:
    """Enrol a connection, or bring what Nango says of it up to date."""
    wanted, label = _Wanted.of(row), str(row.address)
    if wanted.problem:
        done.problems[label] = wanted.problem
    if known is None:
        if _enrolled(database, row, wanted):
            done.enrolled.append(label)
    elif _changes(known, wanted):
        _update(database, known.id, row, wanted, done)


def _update(
    database: Database, connection_id: int, row: Listed, wanted: _Wanted, done: Discovery
) -> None:
    label = str(row.address)
    with interrupting(database, connection_id) as tx:
        known = get(tx.connection, connection_id)
        changes = {} if known.is_going or known.label != label else _changes(known, wanted)
        if not changes:
            return
        if known.is_retired:
            tell_connection(tx, ConnectionChange.ADDED, _about(row))
            done.returned.append(label)
        _apply(tx, changes)
    if changes.get("status") == ConnectionStatus.PAUSED:
        done.paused.append(label)
    if "status" not in changes and "due_at" in changes:
        done.woken.append(label)


def _apply(tx: Transaction, changes: dict[str, Any]) -> None:
    if "status" in changes:
        rest = {key: changes[key] for key in changes.keys() - {"status", "status_reason"}}
        change_status(tx, changes["status"], changes["status_reason"], **rest)
    else:
        change_connection(tx, **changes)


def _enrolled(database: Database, row: Listed, wanted: _Wanted) -> bool:
    with database.begin() as connection:
        new_id = enrol(connection, row.connection_id, row.provider_config_key, row.provider)
        if new_id is None:
            return False
        with joining(connection, new_id) as tx:
            tell_connection(tx, ConnectionChange.ADDED, _about(row))
            change_connection(tx, **wanted.columns, **_status(None, wanted.policy))
    return True


def _about(row: Listed) -> dict[str, object]:
    return {
        "nango_connection_id": row.connection_id,
        "provider_config_key": row.provider_config_key,
        "provider": row.provider,
    }


def _changes(known: Known, wanted: _Wanted) -> dict[str, Any]:
    """What has to be changed about a connection that we know; empty when nothing has.

    Once Nango's list no longer shows the error that it showed, the pause of a broken connection
    is over. An error that was never shown says nothing: there is more than one way to be broken.
    """
    changes = {} if wanted.is_known(known) else wanted.columns
    cleared = known.settings.get(FAILING, False) and not wanted.failing
    if cleared and known.status is ConnectionStatus.BROKEN:
        changes["due_at"] = func.clock_timestamp()
    return changes | _status(known, wanted.policy)


def _status(known: Known | None, policy: Policy) -> dict[str, Any]:
    status = known.status if known else ConnectionStatus.ACTIVE
    if not policy.enabled:
        if status is ConnectionStatus.PAUSED:
            return {}
        reason = f"switched off by the metadata key {METADATA_KEY} in Nango"
        return {
            "status": ConnectionStatus.PAUSED,
            "status_reason": reason,
            "retired_at": None,
            "due_at": None,
        }
    if status in (ConnectionStatus.PAUSED, ConnectionStatus.RETIRED):
        return {
            "status": ConnectionStatus.ACTIVE,
            "status_reason": None,
            "retired_at": None,
            "broken_count": 0,
            "due_at": func.clock_timestamp(),
        }
    return {}


def _wake_duplicates(database: Database, present: set[str], done: Discovery) -> None:
    """Of each tenant that nobody mirrors any more, the oldest duplicate is looked at again."""
    with database.begin() as connection:
        found = all_connections(connection)
    kept = {one.tenant_id for one in found if one.status in (*IN_USE, ConnectionStatus.PAUSED)}
    for one in found:
        idle = one.status is ConnectionStatus.DUPLICATE and one.label in present
        if idle and one.tenant_id not in kept and _woken(database, one):
            kept.add(one.tenant_id)
            done.woken.append(one.label)


def _woken(database: Database, known: Known) -> bool:
    with interrupting(database, known.id) as tx:
        if get(tx.connection, known.id).status is not ConnectionStatus.DUPLICATE:
            return False
        change_connection(
            tx,
            status=ConnectionStatus.ACTIVE,
            status_reason=None,
            broken_count=0,
            due_at=func.clock_timestamp(),
        )
    return True
