"""Purge of a retired connection: its rows, events and bookkeeping, and finally its own row.

It runs in batches along each table's key, so that it blocks no one and an interrupted purge can
continue. The first step marks the connection as forgotten, so that no discovery revives it and no
new connection takes it over while half of its rows are gone.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import sqlalchemy as sa
from psycopg.sql import SQL, Composed, Identifier
from sqlalchemy import text

from models.base import DIRECTORY, EVENTS, HISTORY, SYNC
from models.closure import NESTED_EDGES, get_closure_name
from models.resource import OWNER
from models.resources import RESOURCES
from models.sample import SAMPLED, get_sample_table
from worker.core.errors import NotFound, StateConflict
from worker.store.engine import Database, get_driver_connection
from worker.store.lease import interrupt_writer, interrupt_writer_in
from worker.store.planner import force_index_scans
from worker.store.state.connections import FORGOTTEN_KEY, get_connection, update_connection

BATCH: Final = 10_000

OnForgetProgress = Callable[[str, int], None]
"""Called after each batch with the table and the number of its rows deleted so far."""


@dataclass(frozen=True)
class _Table:
    """A table with rows of connections, and its key columns after the connection."""

    schema: str
    table: str
    key: tuple[str, ...]

    @property
    def name(self) -> str:
        return f"{self.schema}.{self.table}"

    def render_boundary(self, *, after: bool) -> Composed:
        """Return the query for the last key of the next batch."""
        return SQL(
            "select {key} from {table} where {rows} order by {key} offset %s limit 1"
        ).format(
            key=self._key(),
            table=self._table(),
            rows=self._render_condition(after=after, upto=False),
        )

    def render_deletion(self, *, after: bool, upto: bool) -> Composed:
        return SQL("delete from {table} where {rows}").format(
            table=self._table(), rows=self._render_condition(after=after, upto=upto)
        )

    def _table(self) -> Identifier:
        return Identifier(self.schema, self.table)

    def _key(self) -> Composed:
        return SQL(", ").join(map(Identifier, self.key))

    def _render_condition(self, *, after: bool, upto: bool) -> Composed:
        holes = SQL(", ").join([SQL("%s")] * len(self.key))
        rows = SQL("{} = %s").format(Identifier(OWNER))
        for wanted, sign in ((after, ">"), (upto, "<=")):
            if wanted:
                rows += SQL(" and ({}) {} ({})").format(self._key(), SQL(sign), holes)
        return rows


TABLES: Final = (
    *(_Table(DIRECTORY, resource.name, resource.key) for resource in RESOURCES.values()),
    *(
        _Table(HISTORY, get_sample_table(resource).name, (*resource.key, "sampled_on"))
        for resource in SAMPLED
    ),
    *(
        _Table(DIRECTORY, get_closure_name(edge), (edge.key[0], "inner_id"))
        for edge in NESTED_EDGES
    ),
    _Table(EVENTS, "change_events", ("seq",)),
    _Table(EVENTS, "positions", ("sink_id",)),
    _Table(SYNC, "seen", ("resource", "walk_id", "page_no")),
    _Table(SYNC, "removals", ("resource", "key")),
    _Table(SYNC, "candidates", ("resource", "key")),
    _Table(SYNC, "quarantine", ("resource", "key")),
    _Table(SYNC, "unresolved", ("resource", "kind", "key")),
    _Table(SYNC, "erasures", ("digest",)),
    _Table(SYNC, "runs", ("id",)),
    _Table(SYNC, "operation_targets", ("operation_id",)),
    _Table(SYNC, "streams", ("resource",)),
    _Table(SYNC, "reader_connections", ("role_name",)),
)
"""All tables but the lease and the connection itself, which are deleted last.

Entries of the audit stay: they have no object of the directory.
"""


def forget_connection(
    database: Database, connection_id: int, on_progress: OnForgetProgress, *, batch: int = BATCH
) -> dict[str, int]:
    """Purge a retired connection, and return how many rows of each table were deleted this time.

    Raises StateConflict if it is not retired, NotFound if it does not exist.
    """
    _mark_forgotten(database, connection_id)
    gone = {
        place.name: _empty_table(database, place, connection_id, on_progress, batch)
        for place in TABLES
    }
    gone["sync.leases"] = gone["sync.connections"] = _delete_connection(
        database, connection_id, gone
    )
    return gone


def _mark_forgotten(database: Database, connection_id: int) -> None:
    with database.open_transaction() as db:
        get_connection(db, connection_id)
    with interrupt_writer(database, connection_id) as tx:
        connection = get_connection(tx.db, connection_id)
        if not connection.is_retired:
            raise StateConflict(
                f"it is {connection.status}, but only a retired connection can be forgotten; "
                "delete it in Nango, and the next 'tenant-mirror connections discover' retires it",
                connection=connection.label,
            )
        update_connection(
            tx,
            settings={FORGOTTEN_KEY: True},
            settings_problem=None,
            tenant_id=None,
            domains=None,
            status_reason=f"being forgotten; continue with 'tenant-mirror forget {connection_id}'",
        )


def _empty_table(
    database: Database, place: _Table, connection_id: int, on_progress: OnForgetProgress, batch: int
) -> int:
    """Delete the connection's rows of a table along its key, one transaction per batch."""
    gone = 0
    last: tuple[Any, ...] | None = None
    while True:
        with database.open_transaction() as db:
            boundary, deleted = _delete_batch(db, place, connection_id, last, batch)
        gone += deleted
        if deleted:
            on_progress(place.name, gone)
        if boundary is None:
            return gone
        last = boundary


def _delete_batch(
    db: sa.Connection,
    place: _Table,
    connection_id: int,
    last: tuple[Any, ...] | None,
    batch: int,
) -> tuple[tuple[Any, ...] | None, int]:
    """Return the last key of a batch (None at the end of the table) and the rows deleted."""
    values = (connection_id, *(last or ()))
    after = last is not None
    force_index_scans(db)
    with get_driver_connection(db).cursor() as cursor:
        cursor.execute(place.render_boundary(after=after), (*values, batch - 1))
        boundary = cursor.fetchone()
        statement = place.render_deletion(after=after, upto=boundary is not None)
        cursor.execute(statement, (*values, *(boundary or ())))
        return boundary, cursor.rowcount


def _delete_connection(database: Database, connection_id: int, gone: dict[str, int]) -> int:
    """Delete rows that were written meanwhile, then the connection itself.

    Returns 1, or 0 if another process has deleted it before.
    """
    with database.open_transaction() as db:
        try:
            get_connection(db, connection_id)
        except NotFound:
            return 0
        with interrupt_writer_in(db, connection_id):
            force_index_scans(db)
            with get_driver_connection(db).cursor() as cursor:
                for place in TABLES:
                    cursor.execute(place.render_deletion(after=False, upto=False), (connection_id,))
                    gone[place.name] += cursor.rowcount
            values = {"id": connection_id}
            db.execute(text("delete from sync.leases where connection_id = :id"), values)
            db.execute(text("delete from sync.connections where id = :id"), values)
    return 1
