"""Tenants in a file, so that a sandbox that is started again goes on with them.

Only what changed is written, before the next request is answered: whatever a consumer was told is
in the file, also after a kill, and its delta tokens stay valid.
"""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Iterator
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, Self

import msgspec

from sandbox.tenant.members import Member
from sandbox.tenant.shelf import Entity, State

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType

    from sandbox.tenant.connections import Connection
    from sandbox.tenant.directory import Change
    from sandbox.tenant.nango import Nango
    from sandbox.tenant.tenant import Tenant

_log = logging.getLogger("sandbox.tenant")

_VERSION = 1
_TABLES = """
    create table if not exists tenants (
        owner text primary key, shape text not null, state text not null);
    create table if not exists objects (
        owner text, resource text, number integer, state text not null, name text,
        props text not null, primary key (owner, resource, number)) without rowid;
    create table if not exists members (
        owner text, number integer, removed text not null, added text not null,
        primary key (owner, number)) without rowid;
    create table if not exists log (
        owner text, resource text, position integer, number integer not null,
        change text not null, primary key (owner, resource, position)) without rowid;
"""
_REFRESH = ("fails", "exhausted", "rejected", "revoked")

Logged = dict[str, int]
"""How much of each log is in the file."""


class KeptError(Exception):
    """The file cannot be used; the message says why and what to do."""


class Kept:
    """A file with everything that happened to a Nango's tenants. A context manager."""

    def __init__(self, path: Path, nango: Nango) -> None:
        """Bring the tenants to what the file holds. Raises KeptError."""
        self._path, self._nango = path, nango
        self._logged: dict[str, Logged] = {}
        self._failing = False
        try:
            self._file = sqlite3.connect(
                path, timeout=2, check_same_thread=False, isolation_level=None
            )
            with ExitStack() as unless_all_is_well:
                unless_all_is_well.callback(self._file.close)
                self._open()
                for connection in list(nango.connections):
                    self._put_back(connection)
                unless_all_is_well.pop_all()
        except sqlite3.OperationalError as fault:
            raise KeptError(
                f"{path} cannot be used ({fault}); another sandbox may have it, or its folder "
                "cannot be written to"
            ) from fault
        except (sqlite3.Error, msgspec.MsgspecError, LookupError, TypeError, ValueError) as fault:
            raise KeptError(
                f"{path} does not hold these simulated tenants ({fault}); delete it to begin with "
                "new ones"
            ) from fault

    def __enter__(self) -> Self:
        self._nango.changed = self.save
        self.save()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.save()
        with self._nango.lock:
            self._nango.changed = lambda: None
            self._file.close()

    def save(self) -> None:
        """Write what has changed since the last time.

        Where that fails (a full disk), the tenants live on, and it is tried again at each change.
        """
        with self._nango.lock:
            try:
                self._write()
            except sqlite3.Error as fault:
                if not self._failing:
                    _log.warning(
                        "%s cannot be written (%s): changes are kept later", self._path, fault
                    )
                self._failing = True
            else:
                self._failing = False

    def _open(self) -> None:
        self._file.execute("pragma locking_mode = exclusive")
        (version,) = self._file.execute("pragma user_version").fetchone()
        if version not in (0, _VERSION):
            raise ValueError(f"it has format {version}, this release writes {_VERSION}")
        # The disk need not have it before the next request is answered: a kill loses nothing.
        self._file.execute("pragma synchronous = off")
        self._file.executescript(_TABLES)
        self._file.execute(f"pragma user_version = {_VERSION}")

    def _write(self) -> None:
        nango = self._nango
        everybody = [*nango.connections, *nango.disconnected]
        written: list[tuple[Connection, Logged]] = []
        self._file.execute("begin immediate")
        try:
            for connection in everybody:
                with connection.tenant.lock:
                    written.append((connection, self._write_tenant(connection)))
            self._file.execute("commit")
        except BaseException:
            if self._file.in_transaction:
                self._file.execute("rollback")
            raise
        for connection, logged in written:
            self._logged[_owner(connection)] = logged
            _forget_touched(connection.tenant)

    def _write_tenant(self, connection: Connection) -> Logged:
        owner, tenant = _owner(connection), connection.tenant
        present = connection in self._nango.connections
        self._file.execute(
            "insert or replace into tenants values (?, ?, ?)",
            (owner, _shape(tenant), _text(_state(connection, present=present))),
        )
        self._file.executemany(
            "insert or replace into objects values (?, ?, ?, ?, ?, ?)",
            ((owner, *row) for row in _objects(tenant)),
        )
        self._file.executemany(
            "insert or replace into members values (?, ?, ?, ?)",
            ((owner, *row) for row in _members(tenant)),
        )
        logged = self._logged.get(owner, {})
        self._file.executemany(
            "insert or replace into log values (?, ?, ?, ?, ?)",
            ((owner, *row) for row in _log_rows(tenant, logged)),
        )
        return {resource: len(entries) for resource, entries in tenant.log.items()}

    def _put_back(self, connection: Connection) -> None:
        owner, tenant = _owner(connection), connection.tenant
        found = self._rows("select shape, state from tenants where owner = ?", owner)
        if not found:
            return
        ((shape, state),) = found
        if shape != _shape(tenant):
            raise ValueError("they were made with another seed or in other numbers")
        for resource in tenant.resources:
            rows = self._rows(
                "select number, state, name, props from objects where owner = ? and resource = ?",
                owner,
                resource,
            )
            tenant.shelf(resource).put_back(
                (number, Entity(_read(props), State(state)), name)
                for number, state, name, props in rows
            )
        rows = self._rows("select number, removed, added from members where owner = ?", owner)
        for number, removed, added in rows:
            members = [Member(*one) for one in _read(added)]
            tenant.members.put_back(number, _read(removed), members)
        for resource, entries in tenant.log.items():
            rows = self._rows(
                "select number, change from log where owner = ? and resource = ? order by position",
                owner,
                resource,
            )
            entries[:] = [(number, _change(_read(change))) for number, change in rows]
        self._logged[owner] = {name: len(entries) for name, entries in tenant.log.items()}
        _apply(self._nango, connection, _read(state))

    def _rows(self, query: str, *values: object) -> list[tuple[Any, ...]]:
        return self._file.execute(query, values).fetchall()


def _owner(connection: Connection) -> str:
    return f"{connection.provider_config_key}/{connection.connection_id}"


def _shape(tenant: Tenant) -> str:
    """What the tenant was made with; what is not in the file follows from it."""
    made = (tenant.users.base, tenant.groups.base, tenant.sites.base, tenant.members.made_with)
    return _text([tenant.seed, tenant.tenant_id, *made])


def _state(connection: Connection, *, present: bool) -> dict[str, Any]:
    tenant = connection.tenant
    return {
        "mutated": tenant.mutated,
        "delta_epoch": tenant.delta_epoch,
        "page_epoch": tenant.page_epoch,
        "present": present,
        "metadata": connection.metadata,
        "refused": sorted(connection.refused),
        "refresh": {name: getattr(connection.refresh, name) for name in _REFRESH},
    }


def _apply(nango: Nango, connection: Connection, state: dict[str, Any]) -> None:
    tenant = connection.tenant
    tenant.mutated = state["mutated"]
    tenant.delta_epoch, tenant.page_epoch = state["delta_epoch"], state["page_epoch"]
    connection.metadata, connection.refused = state["metadata"], set(state["refused"])
    for name in _REFRESH:
        setattr(connection.refresh, name, state["refresh"][name])
    if not state["present"]:
        nango.disconnect(connection)


def _objects(tenant: Tenant) -> Iterator[tuple[object, ...]]:
    for resource in tenant.resources:
        shelf = tenant.shelf(resource)
        for number in shelf.touched:
            entity = shelf.overlay[number]
            props = _text(entity.props)
            yield resource, number, entity.state.value, shelf.name_of(number), props


def _members(tenant: Tenant) -> Iterator[tuple[object, ...]]:
    for group in tenant.members.touched:
        removed, added = tenant.members.changes_of(group)
        yield group, _text(removed), _text(added)


def _log_rows(tenant: Tenant, logged: Logged) -> Iterator[tuple[object, ...]]:
    for resource, entries in tenant.log.items():
        first = logged.get(resource, 0)
        for position, (number, change) in enumerate(entries[first:], first):
            yield resource, position, number, _text(_plain(change))


def _forget_touched(tenant: Tenant) -> None:
    for resource in tenant.resources:
        tenant.shelf(resource).touched.clear()
    tenant.members.touched.clear()


def _plain(change: Change) -> object:
    if isinstance(change, Member):
        return {"id": change.id, "type": change.type}
    return None if change is None else sorted(change)


def _change(plain: Any) -> Change:
    if isinstance(plain, dict):
        return Member(**plain)
    return None if plain is None else frozenset[str](plain)


def _text(value: object) -> str:
    return msgspec.json.encode(value).decode()


def _read(text: str) -> Any:
    return msgspec.json.decode(text)
