"""A Redis that changes its role for some seconds, or refuses for other reasons, ends no process.

Each blow lasts until every process has met it; then changes must arrive in the mirror and in the
stream again.
"""

import contextlib
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

import pytest
import redis

from models.sink import SinkKind, SinkStart
from sandbox.servers import Servers
from sandbox.tenant import Nango, Tenant
from tests.acceptance.conftest import Ground
from tests.support.fault_proxy import FaultProxy
from tests.support.mirror import scalar
from tests.support.service import assert_survived, create_and_delete, until, until_exact
from worker.events.sink_settings import settings_of
from worker.nango.ledger import PREFIX
from worker.store import sink_admin

STREAM = "directory"
Blow = Callable[[Ground], contextlib.AbstractContextManager[None]]


@contextmanager
def demoted(ground: Ground) -> Iterator[None]:
    """A primary becomes a replica: waits end with UNBLOCKED, writes with READONLY."""
    ground.broker("REPLICAOF", "127.0.0.1", "9")
    yield
    ground.broker("REPLICAOF", "NO", "ONE")


@contextmanager
def demoted_and_without_a_primary(ground: Ground) -> Iterator[None]:
    """Even reads are refused, with MASTERDOWN, and the connections are cut in between."""
    ground.broker("CONFIG", "SET", "replica-serve-stale-data", "no")
    ground.broker("REPLICAOF", "127.0.0.1", "9")
    ground.broker("CLIENT", "KILL", "TYPE", "normal")
    yield
    ground.broker("REPLICAOF", "NO", "ONE")
    ground.broker("CONFIG", "SET", "replica-serve-stale-data", "yes")


@contextmanager
def without_replicas(ground: Ground) -> Iterator[None]:
    """A primary that lost its replicas and may not write alone: NOREPLICAS."""
    ground.broker("CONFIG", "SET", "min-replicas-to-write", "1")
    yield
    ground.broker("CONFIG", "SET", "min-replicas-to-write", "0")


@contextmanager
def full(ground: Ground) -> Iterator[None]:
    """Writes that need memory are refused: OOM."""
    ground.broker("CONFIG", "SET", "maxmemory", "1")
    yield
    ground.broker("CONFIG", "SET", "maxmemory", "0")


BLOWS: list[Blow] = [demoted, demoted_and_without_a_primary, without_replicas, full]
SECONDS = 3.0
"""Of each blow: several ticks, and reports of workers."""


class Play:
    """A service that reaches Redis through a name, and a stream of events that leads there too."""

    def __init__(self, ground: Ground, nango: Nango, proxy: FaultProxy) -> None:
        self.ground = ground
        self.proxy = proxy
        self.tenant = Tenant(seed=64, users=200, groups=10, sites=40)
        nango.add_connection("contoso", self.tenant)
        settings = settings_of(SinkKind.REDIS_STREAM, {"stream": STREAM})
        new = sink_admin.NewSink(STREAM, SinkKind.REDIS_STREAM, settings, start=SinkStart.OLDEST)
        with ground.database.begin() as connection:
            sink_admin.add(connection, new, None)
        password = urlsplit(ground.servers.redis_url).password
        ground.service.environment["REDIS_URL"] = f"redis://:{password}@127.0.0.1:{proxy.port}/0"
        ground.service.start_all()
        ground.service.start_relay()
        until_exact(ground.database, self.tenant, what="the first load")

    def goes_on(self, after: str) -> None:
        """Nobody has ended, and changes arrive in the mirror and in the stream."""
        assert self.ground.service.ended() == {}, after
        create_and_delete(self.tenant)
        until_exact(self.ground.database, self.tenant, seconds=90, what=f"the changes {after}")
        until(self.is_told_of_all, 90, what=f"the events {after}")

    def is_told_of_all(self) -> bool:
        events: int = scalar(self.ground.database, "select count(*) from events.change_events")
        return len(self.told()) == events

    def told(self) -> set[bytes]:
        """The ids of the events in the stream, on the server that the name leads to and before."""
        with redis.Redis.from_url(self.ground.servers.redis_url) as client:
            return {fields[b"id"] for _, fields in client.xrange(STREAM)}

    def survived(self) -> None:
        assert_survived(self.ground.service, self.ground.database, self.tenant)


@pytest.fixture
def play(ground: Ground, nango: Nango) -> Iterator[Play]:
    port = urlsplit(ground.servers.redis_url).port
    assert port is not None
    with FaultProxy("127.0.0.1", port) as proxy:
        yield Play(ground, nango, proxy)
        ground.service.close()


@pytest.mark.timeout(800)
def test_every_process_outlives_a_failover_of_redis_and_work_goes_on(play: Play) -> None:
    for blow in BLOWS:
        create_and_delete(play.tenant)
        with blow(play.ground):
            time.sleep(SECONDS)
            create_and_delete(play.tenant)
        play.goes_on(f"after {blow.__name__}")
    play.survived()


@contextmanager
def second_server(servers: Servers, password: str) -> Iterator[redis.Redis]:
    """Another Valkey that takes the same password."""
    with redis.Redis.from_url(servers.redis_url) as client:
        client.flushall()
        client.execute_command("ACL", "SETUSER", "default", f">{password}")
        yield client
        client.execute_command("ACL", "SETUSER", "default", f"<{password}")
        client.flushall()


@pytest.mark.timeout(480)
def test_a_name_that_leads_to_another_primary_is_followed_while_the_old_one_goes_on_as_a_replica(
    play: Play, servers: Servers
) -> None:
    password = str(urlsplit(play.ground.servers.redis_url).password)
    port = urlsplit(servers.redis_url).port
    assert port is not None
    with second_server(servers, password) as other, demoted(play.ground):
        play.proxy.lead_to("127.0.0.1", port)
        create_and_delete(play.tenant)
        until_exact(play.ground.database, play.tenant, seconds=90, what="the changes")
        until(lambda: other.xlen(STREAM) > 0, 90, what="events on the other server")
        until(lambda: bool(other.keys(f"{PREFIX}*")), 90, what="budgets on the other server")
        play.survived()
        play.ground.service.close()
