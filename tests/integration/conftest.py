"""What several integration tests stand on."""

from collections.abc import Iterator

import pytest

from sandbox.servers import Servers
from sandbox.tenant import Nango
from tests.integration.test_relay import Ground
from worker.sync.run import Kit


@pytest.fixture
def ground(kit: Kit, nango: Nango, servers: Servers) -> Iterator[Ground]:
    """Connections, a relay and the Redis stream that it fills."""
    made = Ground(kit, nango, servers.redis_url)
    yield made
    for key in made.redis.keys(f"{made.mark}:*"):
        made.redis.delete(key)
    made.redis.close()
    made.database.close()
