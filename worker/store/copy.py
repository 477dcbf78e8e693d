"""COPY: the fastest way in. Lines are made by ``worker/rows/copy_format.py``."""

from collections.abc import Iterable, Sequence
from functools import cache
from itertools import islice

import sqlalchemy as sa
from psycopg import sql

from worker.store.engine import get_driver_connection

FIRST_LINES = 100
"""Lines that are sent first, and at least, so that Postgres soon has something to do."""

CHUNK_BYTES = 100_000
"""Bytes that are sent at once, where lines are short: each sending has its own cost."""


def copy_lines(
    db: sa.Connection, schema: str, table: str, columns: Sequence[str], lines: Iterable[bytes]
) -> None:
    """Append rows to a table; each line ends with a newline.

    Lines may be made as they are asked for: Postgres works on some while the next are made.
    """
    made, number = iter(lines), FIRST_LINES
    statement = _render_copy(schema, table, tuple(columns))
    with get_driver_connection(db).cursor() as cursor, cursor.copy(statement) as copy:
        while chunk := b"".join(islice(made, number)):
            copy.write(chunk)
            number = max(FIRST_LINES, number * CHUNK_BYTES // len(chunk))


@cache
def _render_copy(schema: str, table: str, columns: tuple[str, ...]) -> bytes:
    composed = sql.SQL("copy {}.{} ({}) from stdin").format(
        sql.Identifier(schema),
        sql.Identifier(table),
        sql.SQL(", ").join(map(sql.Identifier, columns)),
    )
    return composed.as_bytes()
