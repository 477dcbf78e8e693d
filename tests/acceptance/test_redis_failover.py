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
from tests.support.fault_proxy import FaultProxy
from tests.support.isolated_environment import IsolatedEnvironment
from tests.support.mirror import fetch_scalar
from tests.support.service import assert_survived, make_every_change, wait_until, wait_until_exact
from worker.delivery.settings import build_stored_settings
from worker.delivery.store import admin
from worker.nango.kv_store import KEY_PREFIX

STREAM = "directory"
Blow = Callable[[IsolatedEnvironment], contextlib.AbstractContextManager[None]]


@contextmanager
def demoted(ground: IsolatedEnvironment) -> Iterator[None]:
    """A primary becomes a replica: waits end with UNBLOCKED, writes with READONLY."""
    ground.run_redis("REPLICAOF", "127.0.0.1", "9")
    yield
    ground.run_redis("REPLICAOF", "NO", "ONE")


@contextmanager
def demoted_and_without_a_primary(ground: IsolatedEnvironment) -> Iterator[None]:
    """Even reads are refused, with MASTERDOWN, and the connections are cut in between."""
    ground.run_redis("CONFIG", "SET", "replica-serve-stale-data", "no")
    ground.run_redis("REPLICAOF", "127.0.0.1", "9")
    ground.run_redis("CLIENT", "KILL", "TYPE", "normal")
    yield
    ground.run_redis("REPLICAOF", "NO", "ONE")
    ground.run_redis("CONFIG", "SET", "replica-serve-stale-data", "yes")


@contextmanager
def without_replicas(ground: IsolatedEnvironment) -> Iterator[None]:
    """A primary that lost its replicas and may not write alone: NOREPLICAS."""
    ground.run_redis("CONFIG", "SET", "min-replicas-to-write", "1")
    yield
    ground.run_redis("CONFIG", "SET", "min-replicas-to-write", "0")


@contextmanager
def full(ground: IsolatedEnvironment) -> Iterator[None]:
    """Writes that need memory are refused: OOM."""
    ground.run_redis("CONFIG", "SET", "maxmemory", "1")
    yield
    ground.run_redis("CONFIG", "SET", "maxmemory", "0")


BLOWS: list[Blow] = [demoted, demoted_and_without_a_primary, without_replicas, full]
SECONDS = 3.0
"""Of each blow: several ticks, and reports of workers."""


class Play:
    """A service that reaches Redis through a name, and a stream of events that leads there too."""

    def __init__(self, ground: IsolatedEnvironment, nango: Nango, proxy: FaultProxy) -> None:
        self.ground = ground
        self.proxy = proxy
        self.tenant = Tenant(seed=64, users=200, groups=10, sites=40)
        nango.add_connection("contoso", self.tenant)
        settings = build_stored_settings(SinkKind.REDIS_STREAM, {"stream": STREAM})
        new = admin.NewSink(STREAM, SinkKind.REDIS_STREAM, settings, start=SinkStart.OLDEST)
        with ground.database.open_transaction() as db:
            admin.add_sink(db, new, None)
        password = urlsplit(ground.servers.redis_url).password
        ground.service.environment["REDIS_URL"] = f"redis://:{password}@127.0.0.1:{proxy.port}/0"
        ground.service.start_all()
        ground.service.start_relay()
        wait_until_exact(ground.database, self.tenant, what="the first load")

    def goes_on(self, after: str) -> None:
        """Nobody has ended, and changes arrive in the mirror and in the stream."""
        assert self.ground.service.find_ended() == {}, after
        make_every_change(self.tenant)
        wait_until_exact(self.ground.database, self.tenant, seconds=90, what=f"the changes {after}")
        wait_until(self.is_told_of_all, 90, what=f"the events {after}")

    def is_told_of_all(self) -> bool:
        events: int = fetch_scalar(
            self.ground.database, "select count(*) from events.change_events"
        )
        return len(self.told()) == events

    def told(self) -> set[bytes]:
        """The ids of the events in the stream, on the server that the name leads to and before."""
        with redis.Redis.from_url(self.ground.servers.redis_url) as client:
            return {fields[b"id"] for _, fields in client.xrange(STREAM)}

    def survived(self) -> None:
        assert_survived(self.ground.service, self.ground.database, self.tenant)


@pytest.fixture
def play(environment: IsolatedEnvironment, nango: Nango) -> Iterator[Play]:
    port = urlsplit(environment.servers.redis_url).port
    assert port is not None
    with FaultProxy("127.0.0.1", port) as proxy:
        yield Play(environment, nango, proxy)
        environment.service.close()


@pytest.mark.timeout(800)
def test_every_process_outlives_a_failover_of_redis_and_work_goes_on(play: Play) -> None:
    for blow in BLOWS:
        make_every_change(play.tenant)
        with blow(play.ground):
            time.sleep(SECONDS)
            make_every_change(play.tenant)
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
        play.proxy.redirect_to("127.0.0.1", port)
        make_every_change(play.tenant)
        wait_until_exact(play.ground.database, play.tenant, seconds=90, what="the changes")
        wait_until(lambda: other.xlen(STREAM) > 0, 90, what="events on the other server")
        wait_until(
            lambda: bool(other.keys(f"{KEY_PREFIX}*")), 90, what="budgets on the other server"
        )
        play.survived()
        play.ground.service.close()
