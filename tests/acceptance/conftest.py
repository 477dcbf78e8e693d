"""Services to put through it: on the shared servers, or on servers of their own."""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
import redis

from sandbox.servers import Home, Servers, run_servers
from sandbox.tenant import Nango, Server
from tests.support.databases import DatabaseFactory
from tests.support.fault_proxy import FaultProxy
from tests.support.isolated_environment import IsolatedEnvironment
from tests.support.service import MakeService, Service
from worker.store.engine import Database


@pytest.fixture
def make_service(
    database_url: str, servers: Servers, nango: Nango, nango_server: Server, tmp_path: Path
) -> Iterator[MakeService]:
    """Makes services on the servers that all tests share; ``more`` is added to the environment."""
    with redis.Redis.from_url(servers.redis_url) as broker:
        broker.flushall()
    made: list[Service] = []

    def make(**more: str) -> Service:
        environment = {
            "DATABASE_URL": database_url,
            "REDIS_URL": servers.redis_url,
            "NANGO_HOST": nango_server.url,
            "NANGO_SECRET_KEY": nango.key,
        }
        made.append(Service({**environment, **more}, tmp_path))
        return made[-1]

    yield make
    for one in made:
        one.close()


@pytest.fixture
def service(make_service: MakeService) -> Service:
    """A service of which nothing runs yet."""
    return make_service()


@pytest.fixture
def nango_proxy(nango_server: Server) -> Iterator[FaultProxy]:
    """In front of Nango."""
    with FaultProxy("127.0.0.1", nango_server.port) as proxy:
        yield proxy


@pytest.fixture(scope="module")
def own_servers(home: Path) -> Iterator[Servers]:
    """A pair that may be killed. Its commits are flushed: a killed Postgres forgets others."""
    settings = {"fsync": "off", "shared_buffers": "64MB"}
    with run_servers(Home(home / "own"), postgres_settings=settings) as running:
        yield running


@pytest.fixture(scope="module")
def own_databases(own_servers: Servers) -> Iterator[DatabaseFactory]:
    with closing(DatabaseFactory(own_servers.database_url)) as made:
        yield made


@pytest.fixture
def environment(
    own_servers: Servers,
    own_databases: DatabaseFactory,
    nango: Nango,
    nango_proxy: FaultProxy,
    tmp_path: Path,
) -> Iterator[IsolatedEnvironment]:
    url = own_databases.create_migrated()
    environment = {
        "DATABASE_URL": url,
        "REDIS_URL": own_servers.redis_url,
        "NANGO_HOST": f"http://127.0.0.1:{nango_proxy.port}",
        "NANGO_SECRET_KEY": nango.key,
    }
    made = IsolatedEnvironment(
        Service(environment, tmp_path), own_servers, Database(url), nango_proxy
    )
    made.run_redis("FLUSHALL")
    yield made
    made.service.close()
    made.database.close()
    own_databases.drop(url)
