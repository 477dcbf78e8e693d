"""What several integration tests stand on."""

from collections.abc import Iterator

import pytest

from sandbox.servers import Servers
from sandbox.tenant import Nango, Server
from tests.integration.test_relay import RelayEnvironment
from tests.support.analysts import Analysts, mirror_customers
from tests.support.databases import DatabaseFactory
from tests.support.story import StoryMirror, mirror_story
from tests.support.walled import Walled, open_walled
from worker.sync.runtime import Runtime


@pytest.fixture
def environment(runtime: Runtime, nango: Nango, servers: Servers) -> Iterator[RelayEnvironment]:
    """Connections, a relay and the Redis stream that it fills."""
    made = RelayEnvironment(runtime, nango, servers.redis_url)
    yield made
    for key in made.redis.keys(f"{made.mark}:*"):
        made.redis.delete(key)
    made.redis.close()
    made.database.close()


@pytest.fixture(scope="session")
def analysts(cluster: DatabaseFactory, nango_server: Server) -> Iterator[Analysts]:
    """Two mirrored customers, for tests that only read."""
    yield from mirror_customers(cluster, nango_server)


@pytest.fixture(scope="session")
def alpine(cluster: DatabaseFactory, nango_server: Server) -> Iterator[StoryMirror]:
    """The simulated story, mirrored, for tests that only read."""
    yield from mirror_story(cluster, nango_server)


@pytest.fixture(scope="session", params=["cluster", "cluster_15"])
def walled(request: pytest.FixtureRequest, nango_server: Server) -> Iterator[Walled]:
    """Two customers and their readers, on the newest and on the oldest Postgres; only read."""
    cluster: DatabaseFactory = request.getfixturevalue(request.param)
    with open_walled(cluster, nango_server) as opened:
        yield opened
