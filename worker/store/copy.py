"""Bulk inserts with COPY. ``worker/rows/copy_format.py`` encodes the lines."""

from collections.abc import Iterable, Sequence
from functools import cache
from itertools import islice

import sqlalchemy as sa
from psycopg import sql

from worker.store.engine import get_driver_connection

FIRST_LINES = 100
"""Lines of the first chunk, and the fewest of any chunk, so that Postgres starts early."""

CHUNK_BYTES = 100_000
"""Target size of a chunk in bytes when lines are short: each write has a fixed cost."""


def copy_lines(
    db: sa.Connection, schema: str, table: str, columns: Sequence[str], lines: Iterable[bytes]
) -> None:
    """Append rows to a table; each line ends with a newline.

    ``lines`` may be a generator: Postgres works on one chunk while the next is built.
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
