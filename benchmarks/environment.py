"""The environment of every scenario: real servers, fresh databases, the simulated tenant."""

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

from benchmarks import tenant_process
from benchmarks.meter import Figures
from benchmarks.processes import (
    ROOT,
    MeasurementFailed,
    build_variables,
    measure_processors,
    run_measured,
)
from sandbox.servers import Home, Supervisor, start_postgres, start_valkey
from worker.core.settings import Settings, load_settings
from worker.ops.schema.migrate import migrate
from worker.store.engine import Database
from worker.sync.connections.discover import discover
from worker.wiring import close_runtime, open_runtime

POSTGRES_SETTINGS: Final = {"shared_buffers": "1GB", "max_wal_size": "8GB"}
"""The same for all contestants. Durability of commits stays on."""


def get_default_home() -> Path:
    """Return a directory on a real disk; one in memory would make all figures too good."""
    if os.geteuid() == 0:
        return Path("/var/lib/tenant-mirror-benchmarks")
    return ROOT / "benchmarks" / ".home"


@dataclass
class Environment:
    """The running servers. Databases are clones of templates, so that all runs start equal."""

    admin_url: str
    redis_url: str
    home: Home
    pids: dict[str, int]
    tenant_process: tenant_process.TenantProcess
    postgres_version: str = ""
    _databases: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.empty_url = self._create("empty")
        self.migrated_url = self._create("migrated")
        with self.open_database(self.migrated_url) as database:
            migrate(database)
        with psycopg.connect(self.admin_url) as connection:
            version = connection.execute("show server_version").fetchone()
            self.postgres_version = str(version[0]) if version else ""

    @contextmanager
    def open_database(self, url: str, *, pool_size: int = 1) -> Iterator[Database]:
        database = Database(url, pool_size=pool_size)
        try:
            yield database
        finally:
            database.close()

    def build_settings(self, url: str) -> Settings:
        """Return our settings, as from the environment of a process."""
        return load_settings(
            database_url=url,
            redis_url=self.redis_url,
            nango_host=self.tenant_process.url,
            nango_secret_key=self.tenant_process.key,
        )

    def build_variables(self, url: str, **more: str) -> dict[str, str]:
        """Return the environment of one of our processes for this database."""
        return build_variables(
            DATABASE_URL=url,
            REDIS_URL=self.redis_url,
            NANGO_HOST=self.tenant_process.url,
            NANGO_SECRET_KEY=self.tenant_process.key,
            TENANT_MIRROR_LOG_LEVEL="WARNING",
            **more,
        )

    # -- databases ------------------------------------------------------------------------------

    def _create(self, kind: str, template: str = "template0") -> str:
        name = f"bench_{kind}_{secrets.token_hex(4)}"
        self._run(f'create database {name} template "{template}"')
        self._databases.append(name)
        return f"{self.admin_url.rpartition('/')[0]}/{name}"

    def _run(self, statement: str) -> None:
        with psycopg.connect(self.admin_url, autocommit=True) as connection:
            connection.execute(statement)

    def clone(self, url: str) -> str:
        """Copy a database without connections; return the copy's URL."""
        return self._create("copy", url.rpartition("/")[2])

    def drop(self, url: str) -> None:
        name = url.rpartition("/")[2]
        self._run(f"drop database if exists {name} with (force)")
        self._databases.remove(name)

    @contextmanager
    def use_clone(self, url: str) -> Iterator[str]:
        """Clone a database for the block, with the checkpoint of the copy before it."""
        made = self.clone(url)
        self.flush_servers()
        try:
            yield made
        finally:
            self.drop(made)

    def flush_servers(self) -> None:
        """Write dirty pages and empty the broker, so that no run pays for the previous one."""
        self._run("checkpoint")
        with redis.Redis.from_url(self.redis_url) as client:
            client.flushall()

    def drop_all(self) -> None:
        for name in list(self._databases):
            self.drop(name)

    # -- our own work -----------------------------------------------------------------------------

    def create_enrolled(self, base: str | None = None) -> str:
        """Create a database with all connections of the simulated Nango enrolled."""
        url = self.clone(base or self.migrated_url)
        runtime = open_runtime(self.build_settings(url))
        try:
            discover(runtime.database, runtime.nango, runtime.settings)
        finally:
            close_runtime(runtime)
        return url

    def run_command(self, url: str, *words: str, **more: str) -> Figures:
        """Run one of our commands in a new process; return its and the servers' figures."""
        asked = {"words": list(words)}
        figures = self.run_measured("benchmarks.children.command", asked, url, **more)
        if figures["code"]:
            raise MeasurementFailed(f"tenant-mirror {' '.join(words)} ended with {figures['code']}")
        return figures

    def sync(self, url: str, *words: str, connection: str = "1", **more: str) -> Figures:
        """Run one sync; `report` is the command's output. Raises MeasurementFailed on failure."""
        figures = self.run_command(url, "sync", connection, "--json", *words, **more)
        report = figures["report"] = figures.pop("printed")[0]
        if report["state"] != "succeeded":
            raise MeasurementFailed(f"the sync ended {report['state']}: {report['message']}")
        figures["process_seconds"] = figures["seconds"]
        figures["seconds"] = report["seconds"]
        return figures

    def run_measured(self, module: str, asked: Mapping[str, Any], url: str, **more: str) -> Figures:
        """Run a program of this package with our settings; return its and the servers' figures."""
        with measure_processors(self.pids) as servers:
            figures = run_measured(module, asked, env=self.build_variables(url, **more))
        return figures | servers

    def query(self, url: str, statement: str, *values: Any) -> list[tuple[Any, ...]]:
        """Run a query of the runner."""
        with psycopg.connect(url, autocommit=True) as connection:
            cursor = connection.execute(statement.encode(), values or None)
            return cursor.fetchall() if cursor.description else []


@contextmanager
def run_environment(folder: Path) -> Iterator[Environment]:
    """Run everything during the block; data of earlier runs are deleted."""
    home = Home(folder)
    with home.hold_lock():
        shutil.rmtree(folder / "postgres", ignore_errors=True)
        shutil.rmtree(folder / "valkey", ignore_errors=True)
        with Supervisor() as supervisor, tenant_process.run_tenant_process() as tenants:
            postgres = start_postgres(home, supervisor, settings=POSTGRES_SETTINGS)
            valkey = start_valkey(home, supervisor)
            pids = {
                "postgres": supervisor.get_pid("postgres") or 0,
                "valkey": supervisor.get_pid("valkey") or 0,
                "tenant": tenants.pid,
            }
            made = Environment(postgres.url, valkey.url, home, pids, tenants)
            try:
                yield made
            finally:
                made.drop_all()
