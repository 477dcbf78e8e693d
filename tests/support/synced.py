"""Brings databases to where the first sync of a tenant brings them, mostly without the sync.

The sync runs once for each kind of tenant; what it wrote is copied into the databases of the tests
that follow, which takes a tenth of its time.
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import psycopg
from msgspec import structs
from psycopg.sql import SQL, Composed, Identifier
from sqlalchemy import Table, func, select

from models.base import metadata
from models.epoch import epochs
from models.known_resource import known_resources
from models.privilege import privileged_actions, privileged_permissions, privileged_roles
from models.product_name import product_names
from models.pseudonym_key import pseudonym_key
from models.run import RunState
from worker.core.settings import Settings
from worker.sync.connections.discover import discover
from worker.sync.plan import SyncRequest
from worker.sync.report import SyncReport
from worker.sync.run import run_to_end
from worker.sync.runtime import Runtime
from worker.wiring import close_runtime, open_runtime

_SHIPPED: Final = (
    *(epochs, known_resources, product_names, pseudonym_key),
    *(privileged_roles, privileged_actions, privileged_permissions),
)
"""Tables that each database has filled before a sync."""

_VALID_SECONDS: Final = 150
"""How old a copied sync may be: nothing of it is due before five minutes."""


def sync_by_hand(
    runtime: Runtime, connection_id: int, *resources: str, full: bool = False
) -> SyncReport:
    """A sync of everything or of some resources, as an operator starts it."""
    with runtime.database.open_transaction() as db:
        now = db.execute(select(func.clock_timestamp())).scalar_one()
    request = SyncRequest(now, manual=True, resources=frozenset(resources) or None, full=full)
    return run_to_end(runtime, connection_id, request)


@dataclass(frozen=True)
class _Written:
    """What a sync has left in a database."""

    rows: Mapping[Table, bytes]
    sequences: Mapping[tuple[str, str], int]
    at: float


class SyncedStates:
    """What the first syncs of tenants wrote, by what the tenants were made from."""

    def __init__(self) -> None:
        self._written: dict[tuple[str, Settings], _Written] = {}

    def sync(self, settings: Settings, made_from: str) -> None:
        """Sync the one tenant of Nango for the first time, into a database that is still empty.

        Another process seems to have done it: nothing of it is left in the memory of this one.
        """
        if not self.restore(settings, made_from):
            _sync_first(settings)
            self.keep(settings, made_from)

    def restore(self, settings: Settings, made_from: str) -> bool:
        """Fill a database that is still empty with what was kept, if anything was lately."""
        found = self._written.get(_build_key(settings, made_from))
        if found is None or time.monotonic() > found.at + _VALID_SECONDS:
            return False
        _write(_get_url(settings), found)
        return True

    def keep(self, settings: Settings, made_from: str) -> None:
        """Keep what a database holds now."""
        self._written[_build_key(settings, made_from)] = _read(_get_url(settings))


def _build_key(settings: Settings, made_from: str) -> tuple[str, Settings]:
    """What was written depends on this alone."""
    return made_from, structs.replace(settings, database_url=None)


def _get_url(settings: Settings) -> str:
    assert settings.database_url is not None
    return settings.database_url.get_secret_value()


def _sync_first(settings: Settings) -> None:
    runtime = open_runtime(settings)
    try:
        discover(runtime.database, runtime.nango, settings)
        assert sync_by_hand(runtime, 1).state is RunState.SUCCEEDED
    finally:
        close_runtime(runtime)


def _read(url: str) -> _Written:
    rows, at = {}, time.monotonic()
    with psycopg.connect(url) as connection:
        for table in metadata.tables.values():
            if table not in _SHIPPED:
                name, columns = _name(table)
                statement = SQL("copy (select {} from {}) to stdout").format(columns, name)
                with connection.cursor().copy(statement) as copy:
                    found = b"".join(bytes(part) for part in copy)
                if found:
                    rows[table] = found
        used = connection.execute(
            "select schemaname, sequencename, last_value from pg_sequences"
            " where last_value is not null"
        )
        return _Written(rows, {(schema, name): value for schema, name, value in used}, at)


def _write(url: str, written: _Written) -> None:
    with psycopg.connect(url) as connection:
        connection.execute("set session_replication_role = replica")
        for table, rows in written.rows.items():
            name, columns = _name(table)
            statement = SQL("copy {} ({}) from stdin").format(name, columns)
            with connection.cursor().copy(statement) as copy:
                copy.write(rows)
        for (schema, sequence), value in written.sequences.items():
            connection.execute(
                "select setval(format('%%I.%%I', %s::text, %s::text), %s)",
                (schema, sequence, value),
            )


def _name(table: Table) -> tuple[Composed, Composed]:
    """A table and its columns, for SQL."""
    assert table.schema
    columns = SQL(", ").join(Identifier(column.name) for column in table.columns)
    return SQL("{}").format(Identifier(table.schema, table.name)), columns
