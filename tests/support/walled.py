"""A database with two synced customers, and logins that read it in each of the ways there are."""

import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final

import psycopg

from migrations.walls.roles import ReaderKind
from sandbox.tenant import KindCounts, Nango, Server, Tenant
from tests.support.databases import DatabaseFactory
from tests.support.nango import reset_nango
from tests.support.plans import turn_autovacuum_off
from tests.support.synced import sync_by_hand
from worker.core.settings import load_settings
from worker.ops.schema.migrate import migrate
from worker.store.engine import Database
from worker.store.readers import allow_connection, grant_membership
from worker.sync.connections.discover import discover
from worker.wiring import close_runtime, open_runtime

CONTOSO: Final = "contoso.example"
FABRIKAM: Final = "fabrikam.example"
"""Domains of the customers 1 and 2, which their users' names and addresses end with."""

RELATIONS: Final = """
    select n.nspname || '.' || c.relname
      from pg_class c join pg_namespace n on n.oid = c.relnamespace
     where c.relkind in ('r', 'p', 'v', 'm', 'f') and n.nspname = any (%s) order by 1
"""


@dataclass
class Session:
    """A session of a reader; each statement is a transaction."""

    connection: psycopg.Connection[Any]
    notices: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.connection.add_notice_handler(
            lambda told: self.notices.append(told.message_primary or "")
        )

    def run(self, statement: str) -> list[tuple[Any, ...]]:
        """Run a statement, and return its rows. Raises psycopg.Error."""
        done = self.connection.execute(statement.encode())
        return done.fetchall() if done.description else []

    def see(self, place: str) -> set[int]:
        """The connections whose rows a view or table shows."""
        return {number for (number,) in self.run(f"select distinct connection_id from {place}")}

    def copy(self, statement: str) -> str:
        """What a COPY sends. Raises psycopg.Error."""
        with self.connection.cursor().copy(statement.encode()) as copy:
            return b"".join(bytes(part) for part in copy).decode()


@dataclass
class Walled:
    """The database, and its logins by kind: those of customers are Contoso's."""

    cluster: DatabaseFactory
    url: str
    logins: dict[ReaderKind, str]

    @contextmanager
    def open(self, login: str | ReaderKind) -> Iterator[Session]:
        name = self.logins[login] if isinstance(login, ReaderKind) else login
        url = self.cluster.build_login_url(self.url, name)
        with psycopg.connect(url, autocommit=True) as connection:
            yield Session(connection)

    def execute(self, statement: str, values: Sequence[object] = ()) -> list[tuple[Any, ...]]:
        """Run a statement as the owner, who is a superuser."""
        with psycopg.connect(self.url, autocommit=True) as connection:
            done = connection.execute(statement.encode(), list(values) or None)
            return done.fetchall() if done.description else []

    def migrate(self, revision: str = "head") -> list[str]:
        """Migrate; return what could not be done."""
        notes: list[str] = []
        database = Database(self.url)
        migrate(database, revision, on_note=notes.append)
        database.close()
        return notes

    def list_relations(self, *schemas: str) -> list[str]:
        return [name for (name,) in self.execute(RELATIONS, [list(schemas)])]


@contextmanager
def open_walled(cluster: DatabaseFactory, server: Server) -> Iterator[Walled]:
    """Two customers, synced from simulated tenants, and a login of each kind."""
    url = cluster.create_migrated()
    nango = reset_nango(server)
    _sync(url, nango, server)
    mark = uuid.uuid4().hex[:8]
    logins = {kind: f"{kind.value}_{mark}" for kind in ReaderKind}
    database = Database(url)
    for kind, login in logins.items():
        cluster.create_role(login)
        with database.open_transaction() as db:
            assert grant_membership(db, login, kind) == []
            if kind.is_listed:
                allow_connection(db, login, 1)
    turn_autovacuum_off(database)
    database.close()
    walled = Walled(cluster, url, logins)
    walled.execute("analyze")
    try:
        yield walled
    finally:
        for login in logins.values():
            walled.execute(f"drop owned by {login}")
            walled.execute(f"drop role {login}")
        cluster.drop(url)


def _sync(url: str, nango: Nango, server: Server) -> None:
    settings = load_settings(database_url=url, nango_host=server.url, nango_secret_key=nango.key)
    for number, domain in enumerate((CONTOSO, FABRIKAM), 1):
        kinds = KindCounts.for_users(60)
        tenant = Tenant(seed=number, users=60, groups=8, sites=6, kinds=kinds, domain=domain)
        nango.add_connection(domain.split(".")[0], tenant)
    runtime = open_runtime(settings)
    try:
        discover(runtime.database, runtime.nango, settings)
        for number in (1, 2):
            sync_by_hand(runtime, number)
    finally:
        close_runtime(runtime)
