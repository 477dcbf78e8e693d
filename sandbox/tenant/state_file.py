"""Saves tenants in a file, so that a restarted sandbox continues with them.

Only changes are written, before the next request is answered: everything that a consumer received
is in the file, also after a kill, and its delta tokens stay valid.
"""

import logging
import sqlite3
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import msgspec

from sandbox.tenant.directory.fields import SIGN_INS
from sandbox.tenant.directory.kind_counts import KindCounts
from sandbox.tenant.directory.members import LoggedEdge, Member
from sandbox.tenant.directory.object_store import LifecycleState, StoredObject
from sandbox.tenant.directory.stores import LoggedChange
from sandbox.tenant.directory.tenant import Tenant
from sandbox.tenant.nango.connections import NangoConnection
from sandbox.tenant.nango.service import Nango

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
    create table if not exists edges (
        owner text, resource text, number integer, removed text not null, added text not null,
        primary key (owner, resource, number)) without rowid;
    create table if not exists log (
        owner text, resource text, position integer, number integer not null,
        change text not null, primary key (owner, resource, position)) without rowid;
"""
_REFRESH_FIELDS = ("fails", "exhausted", "rejected", "revoked")

LogLengths = dict[str, int]
"""The saved length of each log."""


class StateFileError(Exception):
    """The file cannot be used. The message says why and what to do."""


class StateFile:
    """A file with all changes of a Nango's tenants. A context manager."""

    def __init__(self, path: Path, nango: Nango) -> None:
        """Restore the tenants from the file. Raises StateFileError."""
        self._path, self._nango = path, nango
        self._log_lengths: dict[str, LogLengths] = {}
        self._failing = False
        try:
            self._file = sqlite3.connect(
                path, timeout=2, check_same_thread=False, isolation_level=None
            )
            with ExitStack() as unless_all_is_well:
                unless_all_is_well.callback(self._file.close)
                self._open()
                for connection in list(nango.connections):
                    self._restore_tenant(connection)
                unless_all_is_well.pop_all()
        except sqlite3.OperationalError as error:
            raise StateFileError(
                f"{path} cannot be used ({error}); another sandbox may have it, or its folder "
                "cannot be written to"
            ) from error
        except (sqlite3.Error, msgspec.MsgspecError, LookupError, TypeError, ValueError) as error:
            raise StateFileError(
                f"{path} does not hold these simulated tenants ({error}); delete it to begin with "
                "new ones"
            ) from error

    def __enter__(self) -> Self:
        self._nango.on_change = self.save
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
            self._nango.on_change = lambda: None
            self._file.close()

    def save(self) -> None:
        """Write what has changed since the last call.

        After an error (a full disk) the tenants continue, and each change tries again.
        """
        with self._nango.lock:
            try:
                self._save_all()
            except sqlite3.Error as error:
                if not self._failing:
                    _log.warning(
                        "%s cannot be written (%s): changes are kept later", self._path, error
                    )
                self._failing = True
            else:
                self._failing = False

    def _open(self) -> None:
        self._file.execute("pragma locking_mode = exclusive")
        (version,) = self._file.execute("pragma user_version").fetchone()
        if version not in (0, _VERSION):
            raise ValueError(f"it has format {version}, this release writes {_VERSION}")
        # A kill of the process loses nothing, even if the disk has not been written yet.
        self._file.execute("pragma synchronous = off")
        self._file.executescript(_TABLES)
        self._file.execute(f"pragma user_version = {_VERSION}")

    def _save_all(self) -> None:
        nango = self._nango
        everybody = [*nango.connections, *nango.disconnected]
        written: list[tuple[NangoConnection, LogLengths]] = []
        self._file.execute("begin immediate")
        try:
            for connection in everybody:
                with connection.tenant.lock:
                    written.append((connection, self._save_tenant(connection)))
            self._file.execute("commit")
        except BaseException:
            if self._file.in_transaction:
                self._file.execute("rollback")
            raise
        for connection, logged in written:
            self._log_lengths[_build_owner_key(connection)] = logged
            _mark_saved(connection.tenant)

    def _save_tenant(self, connection: NangoConnection) -> LogLengths:
        owner, tenant = _build_owner_key(connection), connection.tenant
        present = connection in self._nango.connections
        self._file.execute(
            "insert or replace into tenants values (?, ?, ?)",
            (owner, _render_shape(tenant), _encode(_build_state(connection, present=present))),
        )
        self._file.executemany(
            "insert or replace into objects values (?, ?, ?, ?, ?, ?)",
            ((owner, *row) for row in _list_unsaved_objects(tenant)),
        )
        self._file.executemany(
            "insert or replace into members values (?, ?, ?, ?)",
            ((owner, *row) for row in _list_unsaved_members(tenant)),
        )
        self._file.executemany(
            "insert or replace into edges values (?, ?, ?, ?, ?)",
            ((owner, *row) for row in _list_unsaved_edges(tenant)),
        )
        logged = self._log_lengths.get(owner, {})
        self._file.executemany(
            "insert or replace into log values (?, ?, ?, ?, ?)",
            ((owner, *row) for row in _list_unsaved_changes(tenant, logged)),
        )
        return {resource: len(entries) for resource, entries in tenant.change_log.items()}

    def _restore_tenant(self, connection: NangoConnection) -> None:
        owner, tenant = _build_owner_key(connection), connection.tenant
        found = self._query("select shape, state from tenants where owner = ?", owner)
        if not found:
            return
        ((shape, state),) = found
        older = shape == _render_shape(tenant, with_kinds=False)
        if not older and shape != _render_shape(tenant):
            raise ValueError("they were made with another seed or in other numbers")
        for resource in tenant.resources:
            if not older or resource not in tenant.further:
                self._restore_objects(owner, tenant, resource)
        self._restore_edges(owner, tenant)
        rows = self._query(
            "select number, props from objects where owner = ? and resource = ?", owner, SIGN_INS
        )
        for number, props in rows:
            tenant.sign_ins.put(number, _decode(props))
        tenant.sign_ins.unsaved.clear()
        for resource, entries in tenant.change_log.items():
            rows = self._query(
                "select number, change from log where owner = ? and resource = ? order by position",
                owner,
                resource,
            )
            entries[:] = [(number, _parse_change(_decode(change))) for number, change in rows]
        self._log_lengths[owner] = {
            name: len(entries) for name, entries in tenant.change_log.items()
        }
        _apply_state(self._nango, connection, _decode(state))

    def _restore_objects(self, owner: str, tenant: Tenant, resource: str) -> None:
        rows = self._query(
            "select number, state, name, props from objects where owner = ? and resource = ?",
            owner,
            resource,
        )
        tenant.store(resource).restore(
            (number, StoredObject(_decode(props), LifecycleState(state)), name)
            for number, state, name, props in rows
        )

    def _restore_edges(self, owner: str, tenant: Tenant) -> None:
        rows = self._query(
            "select 'group_members', number, removed, added from members where owner = ?"
            " union all select resource, number, removed, added from edges where owner = ?",
            owner,
            owner,
        )
        for resource, number, removed, added in rows:
            members = [Member(*one) for one in _decode(added)]
            tenant.edges[resource].restore_changes(number, _decode(removed), members)

    def _query(self, query: str, *values: object) -> list[tuple[Any, ...]]:
        return self._file.execute(query, values).fetchall()


def _build_owner_key(connection: NangoConnection) -> str:
    return f"{connection.provider_config_key}/{connection.connection_id}"


def _render_shape(tenant: Tenant, *, with_kinds: bool = True) -> str:
    """Return the parameters of the tenant, from which everything not in the file follows.

    Without the kinds, it is what files of earlier releases have; such a tenant gets its further
    objects from the start.
    """
    made = (
        tenant.users.generated_count,
        tenant.groups.generated_count,
        tenant.sites.generated_count,
        tenant.members.parameters,
        *(shelf.generated_count for shelf in tenant.others if shelf.generated_count),
    )
    kinds = [asdict(tenant.kinds)] if with_kinds and tenant.kinds != KindCounts() else []
    return _encode([tenant.seed, tenant.tenant_id, *made, *kinds])


def _build_state(connection: NangoConnection, *, present: bool) -> dict[str, Any]:
    tenant = connection.tenant
    return {
        "mutated": tenant.mutation_count,
        "advanced": tenant.clock.advanced,
        "manager_changes": tenant.manager_changes,
        "delta_epoch": tenant.delta_epoch,
        "page_epoch": tenant.page_epoch,
        "licences": sorted(tenant.options.licences),
        "present": present,
        "metadata": connection.metadata,
        "refused": sorted(connection.refused_resources),
        "refresh": {name: getattr(connection.refresh, name) for name in _REFRESH_FIELDS},
    }


def _apply_state(nango: Nango, connection: NangoConnection, state: dict[str, Any]) -> None:
    tenant = connection.tenant
    tenant.mutation_count = state["mutated"]
    # Files of earlier releases have none of these.
    if "licences" in state:
        tenant.options.licences = set(state["licences"])
    tenant.clock.advanced = state.get("advanced", 0.0)
    tenant.manager_changes = state.get("manager_changes", 0)
    tenant.delta_epoch, tenant.page_epoch = state["delta_epoch"], state["page_epoch"]
    connection.metadata, connection.refused_resources = state["metadata"], set(state["refused"])
    for name in _REFRESH_FIELDS:
        setattr(connection.refresh, name, state["refresh"][name])
    if not state["present"]:
        nango.disconnect(connection)


def _list_unsaved_objects(tenant: Tenant) -> Iterator[tuple[object, ...]]:
    for resource in tenant.resources:
        shelf = tenant.store(resource)
        for number in shelf.unsaved:
            entity = shelf.overlay[number]
            props = _encode(entity.props)
            yield resource, number, entity.state.value, shelf.custom_id_at(number), props
    for number in tenant.sign_ins.unsaved:
        yield SIGN_INS, number, "live", None, _encode(tenant.sign_ins.get(number))


def _list_unsaved_members(tenant: Tenant) -> Iterator[tuple[object, ...]]:
    for group in tenant.members.unsaved:
        removed, added = tenant.members.get_changes(group)
        yield group, _encode(removed), _encode(added)


def _list_unsaved_edges(tenant: Tenant) -> Iterator[tuple[object, ...]]:
    """Yield all edges but memberships, which have a table of their own since the first release."""
    for resource, edges in tenant.edges.items():
        if edges is not tenant.members:
            for parent in edges.unsaved:
                removed, added = edges.get_changes(parent)
                yield resource, parent, _encode(removed), _encode(added)


def _list_unsaved_changes(tenant: Tenant, logged: LogLengths) -> Iterator[tuple[object, ...]]:
    for resource, entries in tenant.change_log.items():
        first = logged.get(resource, 0)
        for position, (number, change) in enumerate(entries[first:], first):
            yield resource, position, number, _encode(_to_plain(change))


def _mark_saved(tenant: Tenant) -> None:
    for resource in tenant.resources:
        tenant.store(resource).unsaved.clear()
    for edges in tenant.edges.values():
        edges.unsaved.clear()
    tenant.sign_ins.unsaved.clear()


def _to_plain(change: LoggedChange) -> object:
    if isinstance(change, Member):
        return {"id": change.id, "type": change.type}
    if isinstance(change, LoggedEdge):
        return {"relation": change.relation, "member": change.member}
    return None if change is None else sorted(change)


def _parse_change(plain: Any) -> LoggedChange:
    if isinstance(plain, dict):
        relation = plain.get("relation")
        return LoggedEdge(relation, Member(*plain["member"])) if relation else Member(**plain)
    return None if plain is None else frozenset[str](plain)


def _encode(value: object) -> str:
    return msgspec.json.encode(value).decode()


def _decode(text: str) -> Any:
    return msgspec.json.decode(text)
