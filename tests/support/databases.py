"""Test databases, copied from a migrated template.

They are copied file by file, which takes half the processor time of a copy through the log.
"""

import uuid
from pathlib import Path

import psycopg

from worker.ops.schema.migrate import migrate
from worker.store.engine import Database

FAST_SETTINGS = {
    "fsync": "off",
    "synchronous_commit": "off",
    # Each database that is dropped makes a checkpoint, and each checkpoint would write pages whole.
    "full_page_writes": "off",
    "shared_buffers": "64MB",
}
POSTGRES_15 = Path("/usr/lib/postgresql/15/bin")


class DatabaseFactory:
    """Makes databases out of a migrated template."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._session = psycopg.connect(url, autocommit=True)
        self._template = f"template_{uuid.uuid4().hex[:8]}"
        self._execute(f"create database {self._template}")
        database = Database(self._build_url(self._template))
        migrate(database)
        database.close()

    def close(self) -> None:
        self._session.close()

    def _execute(self, statement: str) -> None:
        try:
            self._session.execute(statement)
        except psycopg.OperationalError:
            if not self._session.closed:
                raise
            # A test has killed the server since.
            self._session = psycopg.connect(self._url, autocommit=True)
            self._session.execute(statement)

    def _build_url(self, name: str) -> str:
        return f"{self._url.rsplit('/', 1)[0]}/{name}"

    def create_empty(self) -> str:
        """The URL of a new database without a schema."""
        name = f"empty_{uuid.uuid4().hex[:8]}"
        self._execute(f"create database {name}")
        return self._build_url(name)

    def create_migrated(self) -> str:
        """The URL of a new, migrated database."""
        name = f"test_{uuid.uuid4().hex[:8]}"
        self._execute(f"create database {name} template {self._template} strategy file_copy")
        return self._build_url(name)

    def create_role(self, name: str, password: str | None = None) -> None:
        """A role that may log in and nothing else; its password is its name."""
        rights = "nosuperuser nocreatedb nocreaterole"
        self._execute(f"create role {name} login password '{password or name}' {rights}")

    def grant_membership(self, of: str, to: str) -> None:
        self._execute(f"grant {of} to {to}")

    def create_owned(self, owner: str) -> str:
        """The URL of a new database without a schema, for a role that owns it and no more."""
        name = self.create_empty().rsplit("/", 1)[1]
        self._execute(f"alter database {name} owner to {owner}")
        return self.build_login_url(self._build_url(name), owner)

    @staticmethod
    def build_login_url(url: str, role: str) -> str:
        """The same database for a role that was made here."""
        scheme, _, rest = url.partition("://")
        return f"{scheme}://{role}:{role}@{rest.rpartition('@')[2]}"

    def clone(self, url: str) -> str:
        """The URL of a copy of a database to which nobody is connected."""
        name = f"copy_{uuid.uuid4().hex[:8]}"
        self._execute(f"create database {name} template {url.rsplit('/', 1)[1]} strategy file_copy")
        return self._build_url(name)

    def drop(self, url: str) -> None:
        self._execute(f"drop database if exists {url.rsplit('/', 1)[1]} with (force)")
