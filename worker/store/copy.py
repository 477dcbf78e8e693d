"""COPY: the fastest way in. Lines are made by ``models/copy_text.py``."""

from collections.abc import Callable, Iterable, Sequence
from functools import cache
from itertools import islice

from psycopg import sql
from sqlalchemy import Boolean, Connection

from models.copy_text import converters
from models.resource import BOOKKEEPING, OWNER, Resource
from models.row import Row
from worker.store.engine import driver

CHUNK = 100
"""Lines that are sent first, and at least, so that Postgres soon has something to do."""

ENOUGH = 100_000
"""Bytes that are sent at once, where lines are short: each sending has its own cost."""


def copy_lines(
    connection: Connection, schema: str, table: str, columns: Sequence[str], lines: Iterable[bytes]
) -> None:
    """Append rows to a table; each line ends with a newline.

    Lines may be made as they are asked for: Postgres works on some while the next are made.
    """
    made, number = iter(lines), CHUNK
    statement = _statement(schema, table, tuple(columns))
    with driver(connection).cursor() as cursor, cursor.copy(statement) as copy:
        while chunk := b"".join(islice(made, number)):
            copy.write(chunk)
            number = max(CHUNK, number * ENOUGH // len(chunk))


@cache
def _statement(schema: str, table: str, columns: tuple[str, ...]) -> bytes:
    composed = sql.SQL("copy {}.{} ({}) from stdin").format(
        sql.Identifier(schema),
        sql.Identifier(table),
        sql.SQL(", ").join(map(sql.Identifier, columns)),
    )
    return composed.as_bytes()


def mirror_columns(resource: Resource) -> tuple[str, ...]:
    """The columns of a mirror table in the order in which we write them."""
    return (OWNER, *resource.column_names, *BOOKKEEPING)


@cache
def as_parameters(resource: Resource) -> Callable[[Row], Row]:
    """A row as the driver takes it fastest: lists, instants and nested values as text."""
    texts = [
        (index, text)
        for index, text in converters(resource.columns)
        if not isinstance(resource.columns[index].type, Boolean)
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


def _unchanged(row: Row) -> Row:
    return row
