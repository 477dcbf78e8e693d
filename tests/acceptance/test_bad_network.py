"""The network between a worker and Postgres, Redis or Nango: cut, reset, half-closed, silent, shut.

A fault proxy stands in front of each. What strikes in the middle of a load strikes in the middle
of a COPY, of a commit or of a body.
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest

from sandbox.servers import Servers
from sandbox.tenant import Nango, Tenant
from tests.support.fault_proxy import Direction, FaultProxy
from tests.support.mirror import compute_mirror_truth
from tests.support.service import (
    MakeService,
    Service,
    assert_survived,
    count_objects,
    make_every_change,
    wait_until,
    wait_until_exact,
)
from worker.store.engine import Database

Blow = Callable[[FaultProxy], None]


def proxy_of(url: str) -> FaultProxy:
    address = url.rpartition("@")[2].partition("/")[0]
    host, _, port = address.partition(":")
    return FaultProxy(host, int(port))


def through(url: str, proxy: FaultProxy) -> str:
    """The same URL by way of the proxy."""
    login, _, rest = url.rpartition("@")
    return f"{login}@127.0.0.1:{proxy.port}/{rest.partition('/')[2]}"


@pytest.fixture
def postgres_proxy(database_url: str) -> Iterator[FaultProxy]:
    with proxy_of(database_url) as proxy:
        yield proxy


@pytest.fixture
def redis_proxy(servers: Servers) -> Iterator[FaultProxy]:
    with proxy_of(servers.redis_url) as proxy:
        yield proxy


@pytest.fixture
def postgres_service(
    make_service: MakeService,
    database_url: str,
    postgres_proxy: FaultProxy,
    nango_proxy: FaultProxy,
) -> Service:
    """A service that reaches Postgres through the proxy, and Nango slowly."""
    nango_proxy.delay(0.1)
    return make_service(
        DATABASE_URL=through(database_url, postgres_proxy),
        NANGO_HOST=f"http://127.0.0.1:{nango_proxy.port}",
    )


def strikes(proxy: FaultProxy, blow: Blow, seconds: float = 30) -> None:
    """Wait until a fault has struck, and mend the network."""
    before = proxy.struck_count
    blow(proxy)
    wait_until(lambda: proxy.struck_count > before, seconds, what="the fault")
    proxy.heal()


def lasts(seconds: float, blow: Blow) -> Blow:
    """A fault for a while, whoever comes by."""

    def during(proxy: FaultProxy) -> None:
        blow(proxy)
        time.sleep(seconds)
        proxy.heal()

    return during


@pytest.mark.timeout(360)
def test_a_first_load_whose_copies_and_commits_are_cut(
    postgres_service: Service, postgres_proxy: FaultProxy, database: Database, nango: Nango
) -> None:
    tenant = Tenant(seed=81, users=9000, groups=20, sites=20)
    nango.add_connection("contoso", tenant)
    postgres_service.start_all()
    wait_until(lambda: compute_mirror_truth(database)["users"].count > 0, what="the first page")
    blows: list[Blow] = [
        lambda proxy: proxy.cut(after=100_000, way=Direction.UP),
        lambda proxy: proxy.reset(after=200_000, way=Direction.UP),
        lambda proxy: proxy.half_close(after=300_000, way=Direction.UP),
        lambda proxy: proxy.half_close(after=1_000, way=Direction.DOWN),
    ]
    for blow in blows:
        strikes(postgres_proxy, blow)
    wait_until_exact(database, tenant, seconds=60, what="the rest of the load")
    assert_survived(postgres_service, database, tenant, created=count_objects(tenant))


@pytest.mark.timeout(360)
def test_deltas_over_a_bad_line_to_postgres(
    postgres_service: Service, postgres_proxy: FaultProxy, database: Database, nango: Nango
) -> None:
    tenant = Tenant(seed=82, users=300, groups=5, sites=20)
    nango.add_connection("contoso", tenant)
    postgres_service.start_all()
    wait_until_exact(database, tenant, what="the first load")
    blows: list[Blow] = [
        lambda proxy: strikes(proxy, lambda it: it.cut(after=3_000, way=Direction.UP, times=3)),
        lambda proxy: strikes(proxy, lambda it: it.reset(after=2_000, times=3)),
        lambda proxy: strikes(proxy, lambda it: it.half_close(after=500, times=3)),
        lasts(3, FaultProxy.refuse),
        lasts(8, FaultProxy.black_hole),
    ]
    for blow in blows:
        make_every_change(tenant)
        blow(postgres_proxy)
        wait_until_exact(database, tenant, seconds=60, what="the changes")
    assert_survived(postgres_service, database, tenant)


REDIS_BLOWS: list[Blow] = [
    FaultProxy.drop,
    lambda proxy: strikes(proxy, lambda it: it.reset(after=100, times=4)),
    lambda proxy: strikes(proxy, lambda it: it.half_close(after=100, times=4)),
    lambda proxy: strikes(proxy, lambda it: it.half_close(way=Direction.UP, times=4)),
    lasts(3, FaultProxy.refuse),
    lasts(12, FaultProxy.black_hole),
]


@pytest.mark.timeout(480)
def test_a_bad_line_to_redis_ends_no_process(
    make_service: MakeService,
    servers: Servers,
    redis_proxy: FaultProxy,
    database: Database,
    nango: Nango,
) -> None:
    service = make_service(REDIS_URL=through(servers.redis_url, redis_proxy))
    tenant = Tenant(seed=83, users=300, groups=5, sites=30)
    nango.add_connection("contoso", tenant)
    service.start_all()
    wait_until_exact(database, tenant, what="the first load")
    for blow in REDIS_BLOWS:
        make_every_change(tenant)
        blow(redis_proxy)
        make_every_change(tenant)
        wait_until_exact(database, tenant, seconds=150, what="the changes")
    assert_survived(service, database, tenant)


@pytest.mark.timeout(360)
def test_a_bad_line_to_nango(
    make_service: MakeService, database: Database, nango: Nango, nango_proxy: FaultProxy
) -> None:
    service = make_service(NANGO_HOST=f"http://127.0.0.1:{nango_proxy.port}")
    tenant = Tenant(seed=84, users=9000, groups=20, sites=20)
    # A page of all 999 takes longer than a call may, on a busy machine: then it is asked for again
    # only after a pause, and a pause later once more.
    tenant.options.max_page_size = 300
    objects = count_objects(tenant)
    nango.add_connection("contoso", tenant)
    service.start_all()
    for cut in (FaultProxy.cut, FaultProxy.reset, FaultProxy.half_close):
        strikes(nango_proxy, lambda proxy, cut=cut: cut(proxy, after=50_000))  # type: ignore[misc]
    lasts(5, FaultProxy.black_hole)(nango_proxy)
    lasts(2, FaultProxy.refuse)(nango_proxy)
    wait_until_exact(database, tenant, seconds=90, what="the load")
    assert_survived(service, database, tenant, created=objects)


@dataclass(frozen=True)
class Lines:
    """A service that reaches everything through proxies."""

    service: Service
    proxies: dict[str, FaultProxy]


@pytest.fixture
def lines(
    service: Service, postgres_proxy: FaultProxy, redis_proxy: FaultProxy, nango_proxy: FaultProxy
) -> Lines:
    environment = service.environment
    environment["DATABASE_URL"] = through(environment["DATABASE_URL"], postgres_proxy)
    environment["REDIS_URL"] = through(environment["REDIS_URL"], redis_proxy)
    environment["NANGO_HOST"] = f"http://127.0.0.1:{nango_proxy.port}"
    return Lines(service, {"postgres": postgres_proxy, "redis": redis_proxy, "nango": nango_proxy})


@pytest.mark.long
@pytest.mark.timeout(800)
@pytest.mark.parametrize("blow", [FaultProxy.black_hole, FaultProxy.refuse])
@pytest.mark.parametrize("away", ["postgres", "redis", "nango"])
def test_a_minute_of_silence_during_a_first_load(
    lines: Lines, database: Database, nango: Nango, away: str, blow: Blow
) -> None:
    tenant = Tenant(seed=85, users=9000, groups=20, sites=20)
    nango.add_connection("contoso", tenant)
    lines.proxies["nango"].delay(0.2)
    lines.service.start_all()
    wait_until(lambda: compute_mirror_truth(database)["users"].count > 0, what="the first page")
    lasts(60, blow)(lines.proxies[away])
    wait_until_exact(database, tenant, seconds=200, what="the load")
    assert_survived(lines.service, database, tenant, created=count_objects(tenant))
    make_every_change(tenant)
    wait_until_exact(database, tenant, seconds=150, what="the changes")
    assert_survived(lines.service, database, tenant)
