"""Real servers for every test: an embedded Postgres for each worker, a database for each test.

The environment is cleared first: a test never touches a server that somebody has given.
"""

import os
import shutil
import tempfile
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import func, select

for _name in list(os.environ):
    _ours = ("DATABASE_URL", "REDIS_URL", "NANGO_", "TENANT_MIRROR_", "CELERY_", "PG")
    if _name.startswith(_ours):
        del os.environ[_name]

from sandbox.servers import Home, Servers, run_servers  # noqa: E402
from sandbox.tenant import Nango, Server, Tenant, serve  # noqa: E402
from worker.core.settings import Settings, load_settings  # noqa: E402
from worker.ops.migrate import migrate  # noqa: E402
from worker.store.engine import Database  # noqa: E402
from worker.sync.books import SyncReport  # noqa: E402
from worker.sync.discover import discover  # noqa: E402
from worker.sync.plan import SyncRequest  # noqa: E402
from worker.sync.run import Runtime, run_to_end  # noqa: E402
from worker.wiring import close_runtime, open_runtime  # noqa: E402

FAST_SETTINGS = {
    "fsync": "off",
    "synchronous_commit": "off",
    # Each database that is dropped makes a checkpoint, and each checkpoint would write pages whole.
    "full_page_writes": "off",
    "shared_buffers": "64MB",
}
POSTGRES_15 = Path("/usr/lib/postgresql/15/bin")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Tests may run on another PostgreSQL than the one that is installed with the sandbox."""
    parser.addoption("--postgres-bin", type=Path, help="directory of PostgreSQL's programs")


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The files with the longest tests go first, so that none is left for the end."""
    items.sort(key=lambda item: item.path.parent.name not in ("property", "acceptance"))


@pytest.fixture(scope="session")
def home() -> Iterator[Path]:
    """A folder that an unprivileged server may pass through."""
    path = Path(tempfile.mkdtemp(prefix="tenant-mirror-test-"))
    path.chmod(0o711)
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture(scope="session")
def servers(home: Path, request: pytest.FixtureRequest) -> Iterator[Servers]:
    """Embedded Postgres 18, or the one that was asked for, and Valkey for this test process."""
    bin_dir = request.config.getoption("--postgres-bin")
    with run_servers(
        Home(home / "18"), postgres_settings=FAST_SETTINGS, bin_dir=bin_dir
    ) as running:
        yield running


@pytest.fixture(scope="session")
def postgres_15(home: Path) -> Iterator[str]:
    """The oldest Postgres that is supported, where the machine has it."""
    if not POSTGRES_15.exists():
        pytest.skip(f"no PostgreSQL 15 at {POSTGRES_15}")
    with run_servers(
        Home(home / "15"), postgres_settings=FAST_SETTINGS, bin_dir=POSTGRES_15
    ) as running:
        yield running.database_url


class DatabaseFactory:
    """Makes databases out of a migrated template."""

    def __init__(self, url: str) -> None:
        self._admin = url
        self._template = f"template_{uuid.uuid4().hex[:8]}"
        self._execute(f"create database {self._template}")
        database = Database(self._build_url(self._template))
        migrate(database)
        database.close()

    def _execute(self, statement: str) -> None:
        with psycopg.connect(self._admin, autocommit=True) as connection:
            connection.execute(statement)

    def _build_url(self, name: str) -> str:
        return f"{self._admin.rsplit('/', 1)[0]}/{name}"

    def create_empty(self) -> str:
        """The URL of a new database without a schema."""
        name = f"empty_{uuid.uuid4().hex[:8]}"
        self._execute(f"create database {name}")
        return self._build_url(name)

    def create_migrated(self) -> str:
        """The URL of a new, migrated database."""
        name = f"test_{uuid.uuid4().hex[:8]}"
        self._execute(f"create database {name} template {self._template}")
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
        self._execute(f"create database {name} template {url.rsplit('/', 1)[1]}")
        return self._build_url(name)

    def drop(self, url: str) -> None:
        self._execute(f"drop database if exists {url.rsplit('/', 1)[1]} with (force)")


@pytest.fixture(scope="session")
def cluster(servers: Servers) -> DatabaseFactory:
    return DatabaseFactory(servers.database_url)


@pytest.fixture(scope="session")
def cluster_15(postgres_15: str) -> DatabaseFactory:
    return DatabaseFactory(postgres_15)


@pytest.fixture
def database_url(cluster: DatabaseFactory) -> Iterator[str]:
    url = cluster.create_migrated()
    yield url
    cluster.drop(url)


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    opened = Database(database_url)
    yield opened
    opened.close()


@pytest.fixture(scope="session")
def nango_server() -> Iterator[Server]:
    """Stopping a server takes longer than a test: one serves them all, emptied for each."""
    with serve(Nango(rate_limit=None)) as running:
        yield running


def reset_nango(server: Server) -> Nango:
    """The shared Nango without connections, calls or faults of the tests before."""
    simulated = server.nango
    for connection in list(simulated.connections):
        simulated.remove_connection(connection.connection_id, connection.provider_config_key)
    simulated.before_response = simulated.before_graph = simulated.faults = None
    simulated.buffers_responses = False
    simulated.calls.reset()
    simulated.log.clear()
    return simulated


@pytest.fixture
def nango(nango_server: Server) -> Nango:
    """A simulated Nango without connections, calls or faults."""
    return reset_nango(nango_server)


@pytest.fixture
def settings(database_url: str, nango: Nango, nango_server: Server) -> Settings:
    return load_settings(
        database_url=database_url,
        nango_host=nango_server.url,
        nango_secret_key=nango.key,
        retry_seconds=0.2,
        call_seconds=10,
    )


@pytest.fixture
def runtime(settings: Settings) -> Iterator[Runtime]:
    opened = open_runtime(settings)
    yield opened
    close_runtime(opened)


@dataclass
class Mirror:
    """One simulated customer with its mirror."""

    runtime: Runtime
    nango: Nango
    tenant: Tenant
    connection_id: int = 1

    @property
    def database(self) -> Database:
        return self.runtime.database

    def sync(self, *resources: str, full: bool = False) -> SyncReport:
        """A sync by hand, of everything or of some resources."""
        with self.database.open_transaction() as db:
            now: datetime = db.execute(select(func.clock_timestamp())).scalar_one()
        order = SyncRequest(now, manual=True, resources=frozenset(resources) or None, full=full)
        return run_to_end(self.runtime, self.connection_id, order)

    def take_call_count(self) -> int:
        """Calls that Nango has counted since the last time."""
        total = self.nango.calls.total
        self.nango.calls.reset()
        return total


MakeMirror = Callable[[Tenant], Mirror]


@pytest.fixture
def make_mirror(runtime: Runtime, nango: Nango) -> MakeMirror:
    """Enrols a tenant; nothing is synced yet."""

    def make(tenant: Tenant) -> Mirror:
        nango.add_connection("contoso", tenant)
        discover(runtime.database, runtime.nango, runtime.settings)
        nango.calls.reset()
        return Mirror(runtime, nango, tenant)

    return make


@pytest.fixture
def mirror(make_mirror: MakeMirror) -> Mirror:
    """A small tenant, enrolled and mirrored."""
    made = make_mirror(Tenant(seed=3, users=60, groups=8, sites=6))
    made.sync()
    made.nango.calls.reset()
    return made
