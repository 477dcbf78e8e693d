"""COPY: the fastest way in. psycopg writes the rows, we only say how values look as text."""

from collections.abc import Callable, Iterable, Sequence
from functools import cache

import msgspec
from psycopg import sql
from sqlalchemy import Connection
from sqlalchemy.dialects.postgresql import JSONB

from models.resource import BOOKKEEPING, OWNER, Resource
from models.row import Row
from worker.store.engine import driver

_encode = msgspec.json.Encoder().encode


def copy_rows(
    connection: Connection, schema: str, table: str, columns: Sequence[str], rows: Iterable[Row]
) -> None:
    """Append rows to a table."""
    statement = sql.SQL("copy {}.{} ({}) from stdin").format(
        sql.Identifier(schema),
        sql.Identifier(table),
        sql.SQL(", ").join(map(sql.Identifier, columns)),
    )
    with driver(connection).cursor() as cursor, cursor.copy(statement) as copy:
        write = copy.write_row
        for row in rows:
            write(row)


def mirror_columns(resource: Resource) -> tuple[str, ...]:
    """The columns of a mirror table in the order in which we write them."""
    return (OWNER, *resource.column_names, *BOOKKEEPING)


@cache
def as_parameters(resource: Resource) -> Callable[[Row], Row]:
    """A row as the driver wants it: nested values as JSON text."""
    nested = [i for i, column in enumerate(resource.columns) if isinstance(column.type, JSONB)]
    if not nested:
        return _unchanged

    def convert(row: Row) -> Row:
        values = list(row)
        for index in nested:
            if values[index] is not None:
                values[index] = _encode(values[index]).decode()
        return tuple(values)

    return convert


def _unchanged(row: Row) -> Row:
    return row
