"""What several integration tests stand on."""

from collections.abc import Iterator

import pytest

from sandbox.servers import Servers
from sandbox.tenant import Nango
from tests.integration.test_relay import RelayEnvironment
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
