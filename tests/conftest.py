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

from sandbox.servers import Home, Servers, embedded  # noqa: E402
from sandbox.tenant import Nango, Server, Tenant, serve  # noqa: E402
from worker.core.settings import Settings, load_settings  # noqa: E402
from worker.ops.migrate import migrate  # noqa: E402
from worker.store.engine import Database  # noqa: E402
from worker.sync.books import Report  # noqa: E402
from worker.sync.discover import discover  # noqa: E402
from worker.sync.plan import Order  # noqa: E402
from worker.sync.run import Kit, run_to_end  # noqa: E402
from worker.wiring import close_kit, open_kit  # noqa: E402

FAST = {
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
    with embedded(Home(home / "18"), postgres_settings=FAST, bin_dir=bin_dir) as running:
        yield running


@pytest.fixture(scope="session")
def postgres_15(home: Path) -> Iterator[str]:
    """The oldest Postgres that is supported, where the machine has it."""
    if not POSTGRES_15.exists():
        pytest.skip(f"no PostgreSQL 15 at {POSTGRES_15}")
    with embedded(Home(home / "15"), postgres_settings=FAST, bin_dir=POSTGRES_15) as running:
        yield running.database_url


class Cluster:
    """Makes databases out of a migrated template."""

    def __init__(self, url: str) -> None:
        self._admin = url
        self._template = f"template_{uuid.uuid4().hex[:8]}"
        self._run(f"create database {self._template}")
        database = Database(self._at(self._template))
        migrate(database)
        database.close()

    def _run(self, statement: str) -> None:
        with psycopg.connect(self._admin, autocommit=True) as connection:
            connection.execute(statement)

    def _at(self, name: str) -> str:
        return f"{self._admin.rsplit('/', 1)[0]}/{name}"

    def empty(self) -> str:
        """The URL of a new database without a schema."""
        name = f"empty_{uuid.uuid4().hex[:8]}"
        self._run(f"create database {name}")
        return self._at(name)

    def fresh(self) -> str:
        """The URL of a new, migrated database."""
        name = f"test_{uuid.uuid4().hex[:8]}"
        self._run(f"create database {name} template {self._template}")
        return self._at(name)

    def role(self, name: str, password: str | None = None) -> None:
        """A role that may log in and nothing else; its password is its name."""
        rights = "nosuperuser nocreatedb nocreaterole"
        self._run(f"create role {name} login password '{password or name}' {rights}")

    def grant_membership(self, of: str, to: str) -> None:
        self._run(f"grant {of} to {to}")

    def owned(self, owner: str) -> str:
        """The URL of a new database without a schema, for a role that owns it and no more."""
        name = self.empty().rsplit("/", 1)[1]
        self._run(f"alter database {name} owner to {owner}")
        return self.login(self._at(name), owner)

    @staticmethod
    def login(url: str, role: str) -> str:
        """The same database for a role that was made here."""
        scheme, _, rest = url.partition("://")
        return f"{scheme}://{role}:{role}@{rest.rpartition('@')[2]}"

    def copy(self, url: str) -> str:
        """The URL of a copy of a database to which nobody is connected."""
        name = f"copy_{uuid.uuid4().hex[:8]}"
        self._run(f"create database {name} template {url.rsplit('/', 1)[1]}")
        return self._at(name)

    def drop(self, url: str) -> None:
        self._run(f"drop database if exists {url.rsplit('/', 1)[1]} with (force)")


@pytest.fixture(scope="session")
def cluster(servers: Servers) -> Cluster:
    return Cluster(servers.database_url)


@pytest.fixture(scope="session")
def cluster_15(postgres_15: str) -> Cluster:
    return Cluster(postgres_15)


@pytest.fixture
def database_url(cluster: Cluster) -> Iterator[str]:
    url = cluster.fresh()
    yield url
    cluster.drop(url)


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    opened = Database(database_url)
    yield opened
    opened.close()


@pytest.fixture(scope="session")
def _shared_server() -> Iterator[Server]:
    """Stopping a server takes longer than a test: one serves them all, emptied for each."""
    with serve(Nango(rate_limit=None)) as running:
        yield running


def emptied(server: Server) -> Nango:
    """The shared Nango without connections, calls or faults of the tests before."""
    simulated = server.nango
    for connection in list(simulated.connections):
        simulated.remove_connection(connection.connection_id, connection.provider_config_key)
    simulated.before_response = simulated.before_graph = simulated.faults = None
    simulated.buffered = False
    simulated.calls.reset()
    simulated.log.clear()
    return simulated


@pytest.fixture
def nango(_shared_server: Server) -> Nango:
    """A simulated Nango without connections, calls or faults."""
    return emptied(_shared_server)


@pytest.fixture
def settings(database_url: str, nango: Nango, _shared_server: Server) -> Settings:
    return load_settings(
        database_url=database_url,
        nango_host=_shared_server.url,
        nango_secret_key=nango.key,
        retry_seconds=0.2,
        call_seconds=10,
    )


@pytest.fixture
def kit(settings: Settings) -> Iterator[Kit]:
    opened = open_kit(settings)
    yield opened
    close_kit(opened)


@dataclass
class Mirror:
    """One simulated customer with its mirror."""

    kit: Kit
    nango: Nango
    tenant: Tenant
    connection_id: int = 1

    @property
    def database(self) -> Database:
        return self.kit.database

    def sync(self, *resources: str, full: bool = False) -> Report:
        """A sync by hand, of everything or of some resources."""
        with self.database.begin() as connection:
            now: datetime = connection.execute(select(func.clock_timestamp())).scalar_one()
        order = Order(now, manual=True, resources=frozenset(resources) or None, full=full)
        return run_to_end(self.kit, self.connection_id, order)

    def calls(self) -> int:
        """Calls that Nango has counted since the last time."""
        total = self.nango.calls.total
        self.nango.calls.reset()
        return total


MakeMirror = Callable[[Tenant], Mirror]


@pytest.fixture
def mirror_of(kit: Kit, nango: Nango) -> MakeMirror:
    """Enrols a tenant; nothing is synced yet."""

    def make(tenant: Tenant) -> Mirror:
        nango.add_connection("contoso", tenant)
        discover(kit.database, kit.nango, kit.settings)
        nango.calls.reset()
        return Mirror(kit, nango, tenant)

    return make


@pytest.fixture
def mirror(mirror_of: MakeMirror) -> Mirror:
    """A small tenant, enrolled and mirrored."""
    made = mirror_of(Tenant(seed=3, users=60, groups=8, sites=6))
    made.sync()
    made.nango.calls.reset()
    return made
