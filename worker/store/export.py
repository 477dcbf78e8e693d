"""Copies the views of one customer, all out of one snapshot."""

from collections.abc import Generator, Sequence
from datetime import datetime
from typing import Final, NamedTuple

import sqlalchemy as sa
from psycopg import sql
from sqlalchemy import text

from worker.store.engine import get_driver_connection

_SET_SNAPSHOT: Final = text("set transaction isolation level repeatable read, read only")
_SET_NO_LIMIT: Final = text("set local statement_timeout = 0")
_NOW: Final = text("select now()")
_VIEWS: Final = text("""
    select c.relname as view, obj_description(c.oid, 'pg_class') as meaning,
           a.attname as name, format_type(a.atttypid, null) as type,
           col_description(c.oid, a.attnum) as column_meaning
      from pg_class c join pg_attribute a on a.attrelid = c.oid and a.attnum > 0
     where c.relnamespace = to_regnamespace('analytics') and c.relkind = 'v'
       and exists (select from pg_attribute i
                    where i.attrelid = c.oid and i.attname = 'connection_id')
     order by c.relname, a.attnum
""")
_COVERAGE: Final = text("""
    select resource, is_complete, why from analytics.coverage
     where connection_id = :connection and phase not in ('off', 'not_licensed')
     order by resource
""")


class ReadResource(NamedTuple):
    """Whether all of a resource was read, and why not."""

    resource: str
    is_complete: bool
    why: str | None


class ExportedColumn(NamedTuple):
    """A column of a view, with Postgres's name of its type."""

    name: str
    type: str
    meaning: str | None

    @property
    def is_list(self) -> bool:
        return self.type.endswith("[]")


class ExportedView(NamedTuple):
    """A view of schema ``analytics`` that has rows of single customers."""

    name: str
    meaning: str | None
    columns: Sequence[ExportedColumn]


def begin_snapshot(db: sa.Connection) -> datetime:
    """Let the transaction read one state of everything, however long; return its time."""
    db.execute(_SET_SNAPSHOT)
    db.execute(_SET_NO_LIMIT)
    moment: datetime = db.execute(_NOW).scalar_one()
    return moment


def list_exported_views(db: sa.Connection) -> dict[str, ExportedView]:
    """Return the views by name."""
    views: dict[str, ExportedView] = {}
    for row in db.execute(_VIEWS):
        view = views.setdefault(row.view, ExportedView(row.view, row.meaning, []))
        view.columns.append(  # type: ignore[attr-defined]  # it is the list made above
            ExportedColumn(row.name, row.type, row.column_meaning)
        )
    return views


def list_read_resources(db: sa.Connection, connection_id: int) -> list[ReadResource]:
    """Return the resources of a customer that are switched on and that it has a licence for."""
    found = db.execute(_COVERAGE, {"connection": connection_id})
    return [ReadResource(*row) for row in found]


def copy_view(db: sa.Connection, view: ExportedView, connection_id: int) -> Generator[bytes]:
    """Yield the rows of one customer as CSV with a header; lists are JSON arrays.

    A null is an empty field, and an empty text is quoted.
    """
    columns = sql.SQL(", ").join(_select_column(one) for one in view.columns)
    statement = sql.SQL(
        "copy (select {} from analytics.{} where connection_id = {}) to stdout"
        " (format csv, header true)"
    ).format(columns, sql.Identifier(view.name), sql.Literal(connection_id))
    with get_driver_connection(db).cursor() as cursor, cursor.copy(statement) as copy:
        for chunk in copy:
            yield bytes(chunk)


def _select_column(column: ExportedColumn) -> sql.Composed:
    name = sql.Identifier(column.name)
    if column.is_list:
        return sql.SQL("to_json({}) as {}").format(name, name)
    return sql.SQL("{}").format(name)
