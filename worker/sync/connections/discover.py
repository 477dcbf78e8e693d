"""Compare Nango's list of connections with the stored ones: enrol new, retire missing ones.

Every decision is repeated under the connection's lock, as a slice may have changed it meanwhile.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec
import sqlalchemy as sa
from sqlalchemy import func

from models.change_event import ConnectionChange
from models.connection import ConnectionStatus
from worker.core.settings import MICROSOFT_PROVIDERS, Settings
from worker.events.append import append_connection_event
from worker.nango.client import NangoClient
from worker.nango.connections import ListedConnection, list_connections
from worker.store.engine import Database
from worker.store.lease import Transaction, interrupt_writer, interrupt_writer_in
from worker.store.service.facts import (
    MissingConnections,
    end_halt,
    is_key_changed,
    note_key,
    note_missing,
)
from worker.store.state.connections import (
    FAILING_KEY,
    SYNCED_STATUSES,
    Connection,
    enrol_connection,
    get_connection,
    list_all_connections,
    update_connection,
)
from worker.sync.connections.missing import find_missing, retire_missing
from worker.sync.connections.nango_key import restore_key_health
from worker.sync.guard import check_missing_connections
from worker.sync.policy import METADATA_KEY, Policy, apply_overrides
from worker.sync.run_end import change_connection_status

MAX_CONFIRMED: Final = 20
"""Most missing connections that one discovery confirms, as each costs a call to Nango."""


@dataclass
class Discovery:
    """The result of reading Nango's list, by connection label."""

    listed: int = 0
    enrolled: list[str] = field(default_factory=list)
    returned: list[str] = field(default_factory=list)
    retired: list[str] = field(default_factory=list)
    paused: list[str] = field(default_factory=list)
    woken: list[str] = field(default_factory=list)
    """Duplicates whose tenant is no longer mirrored, and broken ones whose error Nango cleared."""
    problems: dict[str, str] = field(default_factory=dict)
    unreadable: int = 0
    """Malformed rows of the list."""
    held: str | None = None
    """Why the missing connections are not even confirmed: too many are missing at once."""
    unconfirmed: int = 0
    """Connections that are missing from the list and not confirmed yet."""


@dataclass(frozen=True)
class _NangoState:
    """The state of a connection in Nango, as far as it matters here."""

    metadata: Any
    policy: Policy
    problem: str | None
    is_failing: bool

    @classmethod
    def from_row(cls, row: ListedConnection) -> "_NangoState":
        metadata = (row.metadata or {}).get(METADATA_KEY)
        if b"\\u0000" in msgspec.json.encode(metadata):
            problem = (
                f"metadata key {METADATA_KEY} contains a NUL character, which Postgres cannot store"
            )
            return cls(None, Policy(), problem, row.is_failing)
        return cls(metadata, *apply_overrides(Policy(), metadata), row.is_failing)

    @property
    def columns(self) -> dict[str, Any]:
        kept = {} if self.metadata is None else {METADATA_KEY: self.metadata}
        return {
            "settings": kept | ({FAILING_KEY: True} if self.is_failing else {}),
            "settings_problem": self.problem,
        }

    def is_unchanged(self, connection: Connection) -> bool:
        """Whether it equals the stored state."""
        policy, _ = apply_overrides(Policy(), connection.settings.get(METADATA_KEY))
        kept = (policy, connection.settings_problem, connection.settings.get(FAILING_KEY, False))
        return kept == (self.policy, self.problem, self.is_failing)


def discover(database: Database, nango: NangoClient, settings: Settings) -> Discovery:
    """Read Nango's list once and apply it.

    Raises ConfigurationError, RetryLater, ServerUnavailable.
    """
    with database.open_transaction() as connection:
        restore_key_health(connection, nango)
    listing = list_connections(nango)
    ours = [row for row in listing.rows if _is_ours(row, settings)]
    done = Discovery(listed=len(ours), unreadable=listing.unreadable)
    present = {str(row.ref) for row in listing.rows}
    with database.open_transaction() as db:
        connections = _index_by_label(list_all_connections(db))
        absent = find_missing(connections.values(), present)
        used = sum(not one.is_retired for one in connections.values())
        done.held = _check_missing(db, nango, settings, absent, used)
        strange = done.held is not None and len(absent) == used
        if not strange:
            if is_key_changed(db, nango.limiter.fingerprint):
                end_halt(db)
            note_key(db, nango.limiter.fingerprint)
    done.unconfirmed = len(absent)
    if strange:
        return done  # this may be the list of another environment: none of it is applied
    for row in reversed(ours):
        _follow_row(database, connections.get(str(row.ref)), row, done)
    if done.held is None:
        vanished = retire_missing(database, nango, absent, limit=MAX_CONFIRMED)
        done.retired, done.unconfirmed = vanished.retired, vanished.unconfirmed
    _wake_duplicates(database, present, done)
    return done


def _check_missing(
    db: sa.Connection, nango: NangoClient, settings: Settings, absent: list[Connection], used: int
) -> str | None:
    """Return why missing connections are held instead of retired; store it for operators."""
    reason = check_missing_connections(
        len(absent),
        used,
        min_missing=settings.guard_connections,
        percent=settings.guard_connections_percent,
        has_new_key=is_key_changed(db, nango.limiter.fingerprint),
    )
    ids = tuple(one.id for one in absent)
    note_missing(db, MissingConnections(reason, ids) if reason else None)
    return reason


def _is_ours(row: ListedConnection, settings: Settings) -> bool:
    if settings.nango_integrations:
        return row.provider_config_key in settings.nango_integrations
    return row.provider in MICROSOFT_PROVIDERS


def _index_by_label(connections: Iterable[Connection]) -> dict[str, Connection]:
    """Return one connection for each label; a retired one may share it with its successor.

    Prefers the one in use, then one with a known tenant, then the oldest.
    """
    best: dict[str, Connection] = {}
    for one in sorted(connections, key=lambda one: (one.is_retired, one.tenant_id is None, one.id)):
        if not one.is_being_forgotten:
            best.setdefault(one.label, one)
    return best


def _follow_row(
    database: Database, connection: Connection | None, row: ListedConnection, discovery: Discovery
) -> None:
    """Enrol a connection, or update it from Nango's row."""
    wanted, label = _NangoState.from_row(row), str(row.ref)
    if wanted.problem:
        discovery.problems[label] = wanted.problem
    if connection is None:
        if _enrol(database, row, wanted):
            discovery.enrolled.append(label)
    elif _find_changes(connection, wanted):
        _update_connection(database, connection.id, row, wanted, discovery)


def _update_connection(
    database: Database,
    connection_id: int,
    row: ListedConnection,
    wanted: _NangoState,
    done: Discovery,
) -> None:
    label = str(row.ref)
    with interrupt_writer(database, connection_id) as tx:
        connection = get_connection(tx.db, connection_id)
        changes = (
            {}
            if connection.is_being_forgotten or connection.label != label
            else _find_changes(connection, wanted)
        )
        if not changes:
            return
        if connection.is_retired:
            append_connection_event(tx, ConnectionChange.ADDED, _build_added_data(row))
            done.returned.append(label)
        _apply_changes(tx, changes)
    if changes.get("status") == ConnectionStatus.PAUSED:
        done.paused.append(label)
    if "status" not in changes and "due_at" in changes:
        done.woken.append(label)


def _apply_changes(tx: Transaction, changes: dict[str, Any]) -> None:
    if "status" in changes:
        rest = {key: changes[key] for key in changes.keys() - {"status", "status_reason"}}
        change_connection_status(tx, changes["status"], changes["status_reason"], **rest)
    else:
        update_connection(tx, **changes)


def _enrol(database: Database, row: ListedConnection, wanted: _NangoState) -> bool:
    with database.open_transaction() as db:
        new_id = enrol_connection(db, row.connection_id, row.provider_config_key, row.provider)
        if new_id is None:
            return False
        with interrupt_writer_in(db, new_id) as tx:
            append_connection_event(tx, ConnectionChange.ADDED, _build_added_data(row))
            update_connection(tx, **wanted.columns, **_find_status_changes(None, wanted.policy))
    return True


def _build_added_data(row: ListedConnection) -> dict[str, object]:
    return {
        "nango_connection_id": row.connection_id,
        "provider_config_key": row.provider_config_key,
        "provider": row.provider,
    }


def _find_changes(connection: Connection, wanted: _NangoState) -> dict[str, Any]:
    """Return the columns to change of a known connection; empty if none.

    Once Nango's list no longer shows an error that it showed before, the pause of a broken
    connection ends. An error that was never shown proves nothing: a connection can break in other
    ways.
    """
    changes = {} if wanted.is_unchanged(connection) else wanted.columns
    cleared = connection.settings.get(FAILING_KEY, False) and not wanted.is_failing
    if cleared and connection.status is ConnectionStatus.BROKEN:
        changes["due_at"] = func.clock_timestamp()
    return changes | _find_status_changes(connection, wanted.policy)


def _find_status_changes(connection: Connection | None, policy: Policy) -> dict[str, Any]:
    status = connection.status if connection else ConnectionStatus.ACTIVE
    if not policy.enabled:
        if status is ConnectionStatus.PAUSED:
            return {}
        reason = f"paused by the metadata key {METADATA_KEY} in Nango"
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
    """Activate the oldest duplicate of each tenant that is no longer mirrored."""
    with database.open_transaction() as db:
        connections = list_all_connections(db)
    kept = {
        one.tenant_id
        for one in connections
        if one.status in (*SYNCED_STATUSES, ConnectionStatus.PAUSED)
    }
    for one in connections:
        idle = one.status is ConnectionStatus.DUPLICATE and one.label in present
        if idle and one.tenant_id not in kept and _wake(database, one):
            kept.add(one.tenant_id)
            done.woken.append(one.label)


def _wake(database: Database, connection: Connection) -> bool:
    with interrupt_writer(database, connection.id) as tx:
        if get_connection(tx.db, connection.id).status is not ConnectionStatus.DUPLICATE:
            return False
        update_connection(
            tx,
            status=ConnectionStatus.ACTIVE,
            status_reason=None,
            broken_count=0,
            due_at=func.clock_timestamp(),
        )
    return True
