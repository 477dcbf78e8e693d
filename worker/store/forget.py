"""Purging what a retired connection left: rows, events, bookkeeping, and at last its own row.

Batch by batch along each table's key, so that nobody waits for it and an interrupted one goes on
where it ended. The first step takes the connection out of everybody's reach: no discovery revives
it and no new connection takes it over while half of its rows are gone.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from psycopg.sql import SQL, Composed, Identifier
from sqlalchemy import Connection, text

from models.base import DIRECTORY, EVENTS, SYNC
from models.resource import OWNER
from models.resources import RESOURCES
from worker.core.errors import Refused, Unknown
from worker.store.connections import GOING, change_connection, get
from worker.store.engine import Database, along_the_key, driver
from worker.store.lease import interrupting, joining

BATCH: Final = 10_000

Told = Callable[[str, int], None]
"""Told about each batch: the table, and how many of its rows have gone so far."""


@dataclass(frozen=True)
class _Place:
    """A table that holds rows of connections, and its key behind the connection."""

    schema: str
    table: str
    key: tuple[str, ...]

    @property
    def name(self) -> str:
        return f"{self.schema}.{self.table}"

    def boundary(self, *, after: bool) -> Composed:
        """The last key of the next batch."""
        return SQL(
            "select {key} from {table} where {rows} order by {key} offset %s limit 1"
        ).format(key=self._key(), table=self._table(), rows=self._rows(after=after, upto=False))

    def deletion(self, *, after: bool, upto: bool) -> Composed:
        return SQL("delete from {table} where {rows}").format(
            table=self._table(), rows=self._rows(after=after, upto=upto)
        )

    def _table(self) -> Identifier:
        return Identifier(self.schema, self.table)

    def _key(self) -> Composed:
        return SQL(", ").join(map(Identifier, self.key))

    def _rows(self, *, after: bool, upto: bool) -> Composed:
        holes = SQL(", ").join([SQL("%s")] * len(self.key))
        rows = SQL("{} = %s").format(Identifier(OWNER))
        for wanted, sign in ((after, ">"), (upto, "<=")):
            if wanted:
                rows += SQL(" and ({}) {} ({})").format(self._key(), SQL(sign), holes)
        return rows


PLACES: Final = (
    *(_Place(DIRECTORY, resource.name, resource.key) for resource in RESOURCES.values()),
    _Place(EVENTS, "change_events", ("seq",)),
    _Place(EVENTS, "positions", ("sink_id",)),
    _Place(SYNC, "seen", ("resource", "walk_id", "page_no")),
    _Place(SYNC, "removals", ("resource", "key")),
    _Place(SYNC, "candidates", ("resource", "key")),
    _Place(SYNC, "quarantine", ("resource", "key")),
    _Place(SYNC, "unresolved", ("resource", "kind", "key")),
    _Place(SYNC, "erasures", ("digest",)),
    _Place(SYNC, "runs", ("id",)),
    _Place(SYNC, "streams", ("resource",)),
)
"""Everywhere but the lease and the connection itself, which go last."""


def forget(
    database: Database, connection_id: int, told: Told, *, batch: int = BATCH
) -> dict[str, int]:
    """Purge a retired connection; how many rows of each table went, this time.

    Raises Refused where it is not retired, Unknown where there is none.
    """
    _put_out_of_reach(database, connection_id)
    gone = {place.name: _emptied(database, place, connection_id, told, batch) for place in PLACES}
    gone["sync.leases"] = gone["sync.connections"] = _ended(database, connection_id, gone)
    return gone


def _put_out_of_reach(database: Database, connection_id: int) -> None:
    with database.begin() as connection:
        get(connection, connection_id)
    with interrupting(database, connection_id) as tx:
        known = get(tx.connection, connection_id)
        if not known.is_retired:
            raise Refused(
                f"it is {known.status}, and only a retired connection is forgotten; delete it in "
                "Nango, and the next 'tenant-mirror connections discover' retires it",
                connection=known.label,
            )
        change_connection(
            tx,
            settings={GOING: True},
            settings_problem=None,
            tenant_id=None,
            status_reason=f"being forgotten; go on with 'tenant-mirror forget {connection_id}'",
        )


def _emptied(database: Database, place: _Place, connection_id: int, told: Told, batch: int) -> int:
    """Delete a table's rows of the connection along the key, a transaction a batch."""
    gone = 0
    last: tuple[Any, ...] | None = None
    while True:
        with database.begin() as connection:
            boundary, deleted = _batch(connection, place, connection_id, last, batch)
        gone += deleted
        if deleted:
            told(place.name, gone)
        if boundary is None:
            return gone
        last = boundary


def _batch(
    connection: Connection,
    place: _Place,
    connection_id: int,
    last: tuple[Any, ...] | None,
    batch: int,
) -> tuple[tuple[Any, ...] | None, int]:
    """The key that a batch ended at, None at the end of the table; and how many rows went."""
    values = (connection_id, *(last or ()))
    after = last is not None
    along_the_key(connection)
    with driver(connection).cursor() as cursor:
        cursor.execute(place.boundary(after=after), (*values, batch - 1))
        boundary = cursor.fetchone()
        statement = place.deletion(after=after, upto=boundary is not None)
        cursor.execute(statement, (*values, *(boundary or ())))
        return boundary, cursor.rowcount


def _ended(database: Database, connection_id: int, gone: dict[str, int]) -> int:
    """What somebody wrote meanwhile, then the connection: nothing of it is left after this.

    Zero where another process has ended it before.
    """
    with database.begin() as connection:
        try:
            get(connection, connection_id)
        except Unknown:
            return 0
        with joining(connection, connection_id):
            along_the_key(connection)
            with driver(connection).cursor() as cursor:
                for place in PLACES:
                    cursor.execute(place.deletion(after=False, upto=False), (connection_id,))
                    gone[place.name] += cursor.rowcount
            values = {"id": connection_id}
            connection.execute(text("delete from sync.leases where connection_id = :id"), values)
            connection.execute(text("delete from sync.connections where id = :id"), values)
    return 1
