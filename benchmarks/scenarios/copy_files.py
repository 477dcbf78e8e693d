"""Exports COPY lines for the limits: the rows of a first load, as Postgres writes them."""

from pathlib import Path
from typing import Any

import psycopg

from benchmarks.environment import Environment

TABLES = {
    "users": ("directory.users", "1"),
    "groups": ("directory.groups", "1"),
    "group_members": ("directory.group_members", "1"),
    "change_events": ("events.change_events", "seq"),
}


def export(ground: Environment, url: str, folder: Path, *, resource: str = "users") -> None:
    """Write the rows of a resource and their events into files, in the order of insertion."""
    for table, order in ((resource, ""), ("change_events", " order by seq")):
        name = TABLES[table][0]
        condition = " where resource <> 'connection'" if table == "change_events" else ""
        columns = _list_columns(ground, url, name)
        select = f"select {columns} from {name}{condition}{order}"
        file = folder / f"{table}.copy"
        statement = f"copy ({select}) to stdout".encode()
        with (
            psycopg.connect(url) as connection,
            file.open("wb") as out,
            connection.cursor().copy(statement) as copy,
        ):
            for piece in copy:
                out.write(piece)
        (folder / f"{table}.statement").write_text(f"copy {name} ({columns}) from stdin")


def _list_columns(ground: Environment, url: str, table: str) -> str:
    """Return all writable columns."""
    statement = (
        "select string_agg(quote_ident(attname), ', ' order by attnum) from pg_attribute"
        " where attrelid = %s::regclass and attnum > 0 and not attisdropped"
        " and attgenerated = ''"
    )
    return str(ground.query(url, statement, table)[0][0])


def build_copy_parts(folder: Path, tables: tuple[str, ...]) -> list[dict[str, Any]]:
    """Return what ``children/copy_limit.py`` has to write, by table."""
    return [
        {
            "statement": (folder / f"{table}.statement").read_text(),
            "file": str(folder / f"{table}.copy"),
        }
        for table in tables
    ]
