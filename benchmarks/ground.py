"""What every scenario stands on: real servers, fresh databases, the simulated tenant."""

import os
import secrets
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import psycopg
import redis

from benchmarks import tenant
from benchmarks.meter import Figures
from benchmarks.processes import ROOT, Failed, environment, measured, watched
from sandbox.servers import Home, Supervisor, start_postgres, start_valkey
from worker.core.settings import Settings, load_settings
from worker.ops.migrate import migrate
from worker.store.engine import Database
from worker.sync.discover import discover
from worker.wiring import close_kit, open_kit

POSTGRES: Final = {"shared_buffers": "1GB", "max_wal_size": "8GB"}
"""For everybody the same. All that makes a commit durable stays as it is: on."""


def default_home() -> Path:
    """On a real disk: what is synced to memory would flatter everybody."""
    if os.geteuid() == 0:
        return Path("/var/lib/tenant-mirror-benchmarks")
    return ROOT / "benchmarks" / ".home"


@dataclass
class Ground:
    """The running servers. Databases are clones of templates, so that each run begins alike."""

    admin_url: str
    redis_url: str
    home: Home
    pids: dict[str, int]
    tenants: tenant.Tenants
    postgres: str = ""
    _made: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.empty = self._create("empty")
        self.migrated = self._create("migrated")
        with self.opened(self.migrated) as database:
            migrate(database)
        with psycopg.connect(self.admin_url) as connection:
            found = connection.execute("show server_version").fetchone()
            self.postgres = str(found[0]) if found else ""

    @contextmanager
    def opened(self, url: str, *, pool_size: int = 1) -> Iterator[Database]:
        database = Database(url, pool_size=pool_size)
        try:
            yield database
        finally:
            database.close()

    def settings(self, url: str) -> Settings:
        """Ours, as the environment of a process would give them."""
        return load_settings(
            database_url=url,
            redis_url=self.redis_url,
            nango_host=self.tenants.url,
            nango_secret_key=self.tenants.key,
        )

    def environment(self, url: str, **more: str) -> dict[str, str]:
        """Of a process of ours that works on this database."""
        return environment(
            DATABASE_URL=url,
            REDIS_URL=self.redis_url,
            NANGO_HOST=self.tenants.url,
            NANGO_SECRET_KEY=self.tenants.key,
            TENANT_MIRROR_LOG_LEVEL="WARNING",
            **more,
        )

    # -- databases ------------------------------------------------------------------------------

    def _create(self, kind: str, template: str = "template0") -> str:
        name = f"bench_{kind}_{secrets.token_hex(4)}"
        self._run(f'create database {name} template "{template}"')
        self._made.append(name)
        return f"{self.admin_url.rpartition('/')[0]}/{name}"

    def _run(self, statement: str) -> None:
        with psycopg.connect(self.admin_url, autocommit=True) as connection:
            connection.execute(statement)

    def clone(self, url: str) -> str:
        """A copy of a database that nobody is connected to."""
        return self._create("copy", url.rpartition("/")[2])

    def drop(self, url: str) -> None:
        name = url.rpartition("/")[2]
        self._run(f"drop database if exists {name} with (force)")
        self._made.remove(name)

    @contextmanager
    def copy_of(self, url: str) -> Iterator[str]:
        """A clone for the length of the block; no checkpoint of the copying falls into it."""
        made = self.clone(url)
        self.settle()
        try:
            yield made
        finally:
            self.drop(made)

    def settle(self) -> None:
        """Write out what is dirty and empty the broker, so that no run pays for the one before."""
        self._run("checkpoint")
        with redis.Redis.from_url(self.redis_url) as client:
            client.flushall()

    def drop_all(self) -> None:
        for name in list(self._made):
            self.drop(name)

    # -- our own work -----------------------------------------------------------------------------

    def enrolled(self, base: str | None = None) -> str:
        """A database in which all connections of the simulated Nango are enrolled."""
        url = self.clone(base or self.migrated)
        kit = open_kit(self.settings(url))
        try:
            discover(kit.database, kit.nango, kit.settings)
        finally:
            close_kit(kit)
        return url

    def command(self, url: str, *words: str, **more: str) -> Figures:
        """A command of ours in a fresh process; its figures, with those of the servers."""
        asked = {"words": list(words)}
        figures = self.measured("benchmarks.children.command", asked, url, **more)
        if figures["code"]:
            raise Failed(f"tenant-mirror {' '.join(words)} ended with {figures['code']}")
        return figures

    def sync(self, url: str, *words: str, connection: str = "1", **more: str) -> Figures:
        """One sync; `report` is what the command prints. Raises Failed unless it succeeded."""
        figures = self.command(url, "sync", connection, "--json", *words, **more)
        report = figures["report"] = figures.pop("printed")[0]
        if report["state"] != "succeeded":
            raise Failed(f"the sync ended {report['state']}: {report['message']}")
        figures["process_seconds"] = figures["seconds"]
        figures["seconds"] = report["seconds"]
        return figures

    def measured(self, module: str, asked: Mapping[str, Any], url: str, **more: str) -> Figures:
        """A program of this folder with our settings, and what it cost the servers."""
        with watched(self.pids) as servers:
            figures = measured(module, asked, env=self.environment(url, **more))
        return figures | servers

    def ask(self, url: str, statement: str, *values: Any) -> list[tuple[Any, ...]]:
        """A query of the runner's own."""
        with psycopg.connect(url, autocommit=True) as connection:
            cursor = connection.execute(statement.encode(), values or None)
            return cursor.fetchall() if cursor.description else []


@contextmanager
def ground(folder: Path) -> Iterator[Ground]:
    """Start everything, for the length of the block; data of earlier runs are thrown away."""
    home = Home(folder)
    with home.locked():
        shutil.rmtree(folder / "postgres", ignore_errors=True)
        shutil.rmtree(folder / "valkey", ignore_errors=True)
        with Supervisor() as supervisor, tenant.running() as tenants:
            postgres = start_postgres(home, supervisor, settings=POSTGRES)
            valkey = start_valkey(home, supervisor)
            pids = {
                "postgres": supervisor.pid("postgres") or 0,
                "valkey": supervisor.pid("valkey") or 0,
                "tenant": tenants.pid,
            }
            made = Ground(postgres.url, valkey.url, home, pids, tenants)
            try:
                yield made
            finally:
                made.drop_all()
