"""An analyst's session: a login with the role for readers and its limits, and nothing else."""

import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg.rows import dict_row
from psycopg.types.string import TextLoader

from migrations.walls.roles import ReaderKind
from tests.support.databases import DatabaseFactory
from worker.store.engine import Database
from worker.store.readers import grant_membership

Row = Mapping[str, Any]


@dataclass
class Reader:
    """The session of a login; each statement is a transaction."""

    login: str
    url: str
    connection: psycopg.Connection[dict[str, Any]]

    def ask(self, statement: str) -> list[Row]:
        """Raises psycopg.Error."""
        return list(self.connection.execute(statement.encode()))


@contextmanager
def open_reader(cluster: DatabaseFactory, database: Database) -> Iterator[Reader]:
    """A new login that is made a reader as ``tenant-mirror roles`` does, and dropped at the end."""
    login = f"analyst_{uuid.uuid4().hex[:8]}"
    cluster.create_role(login)
    with database.open_transaction() as db:
        assert grant_membership(db, login, ReaderKind.READER) == []
    plain = database.url.set(drivername="postgresql").render_as_string(hide_password=False)
    url = cluster.build_login_url(plain, login)
    try:
        with psycopg.connect(url, autocommit=True, row_factory=dict_row) as connection:
            connection.adapters.register_loader("uuid", TextLoader)
            yield Reader(login, url, connection)
    finally:
        with database.open_transaction() as db:
            db.exec_driver_sql(f"drop owned by {login}")
            db.exec_driver_sql(f"drop role {login}")
