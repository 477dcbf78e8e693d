"""COPY: the fastest way in. psycopg writes the rows, we only say how values look as text."""

from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from functools import cache
from typing import Any

import msgspec
from psycopg import sql
from sqlalchemy import ARRAY, Column, Connection, DateTime
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
    """A row as the driver takes it fastest: lists, instants and nested values as text."""
    texts = [
        (index, text)
        for index, column in enumerate(resource.columns)
        if (text := _text_of(column)) is not None
    ]
    if not texts:
        return _unchanged

    def convert(row: Row) -> Row:
        values = list(row)
        for index, text in texts:
            value = values[index]
            if value is not None:
                values[index] = text(value)
        return tuple(values)

    return convert


def _text_of(column: Column[Any]) -> Callable[[Any], str] | None:
    if isinstance(column.type, JSONB):
        return _json_text
    if isinstance(column.type, ARRAY):
        return array_literal
    if isinstance(column.type, DateTime):
        return datetime.isoformat
    return None


def _json_text(value: Any) -> str:
    return _encode(value).decode()


def array_literal(values: list[str]) -> str:
    """A list of texts as Postgres writes an array."""
    if not values:
        return "{}"
    joined = '","'.join(values)
    if "\\" in joined or joined.count('"') != 2 * (len(values) - 1):
        quoted = (v.replace("\\", "\\\\").replace('"', '\\"') for v in values)
        joined = '","'.join(quoted)
    return f'{{"{joined}"}}'


def _unchanged(row: Row) -> Row:
    return row
