"""First loads beside everything else, with real workers: they fill their places and no more."""

from collections.abc import Callable

import pytest

from sandbox.tenant import Nango, Tenant
from tests.support.fault_proxy import FaultProxy
from tests.support.mirror import fetch_scalar
from tests.support.service import MakeService, Service, wait_until
from worker.store.engine import Database
from worker.store.state.connections import request_resync

LOADED = "select count(*) from sync.runs where trigger = 'backfill' and state = 'succeeded'"


def large(seed: int) -> Tenant:
    """Its first load takes hundreds of calls."""
    tenant = Tenant(seed=seed, users=3000, groups=5)
    tenant.options.list_page_size = tenant.options.delta_page_size = (
        tenant.options.max_page_size
    ) = 10
    return tenant


def start_shared(service: Service) -> None:
    service.start_shared_worker(2)


def start_apart(service: Service) -> None:
    service.start_slice_workers(1)


@pytest.mark.timeout(360)
@pytest.mark.parametrize("start", [start_shared, start_apart])
def test_large_first_loads_leave_a_process_to_what_a_person_asks_for_and_to_the_clock(
    make_service: MakeService,
    database: Database,
    nango: Nango,
    nango_proxy: FaultProxy,
    start: Callable[[Service], None],
) -> None:
    service = make_service(NANGO_HOST=f"http://127.0.0.1:{nango_proxy.port}")
    nango.add_connection("small", Tenant(seed=1, users=5))
    start(service)
    service.start_maintenance()
    service.start_beat()
    wait_until(lambda: fetch_scalar(database, LOADED) == 1, what="the first load of the small one")
    for seed in (2, 3, 4):
        nango.add_connection(f"large{seed}", large(seed))
    nango_proxy.delay(0.5)
    under_way = "select count(*) from sync.runs where trigger = 'backfill' and state = 'running'"
    wait_until(lambda: fetch_scalar(database, under_way) > 0, what="a large first load")
    with database.open_transaction() as db:
        request_resync(db, 1, None, full=False)
    asked = "select requested_at is null from sync.connections where id = 1"
    wait_until(lambda: bool(fetch_scalar(database, asked)), what="the resync")
    runs = "select count(*) from sync.runs where trigger = 'scheduled' and state <> 'running'"
    before = fetch_scalar(database, runs)
    wait_until(lambda: fetch_scalar(database, runs) > before, what="a run by the clock")
    assert fetch_scalar(database, LOADED) < 4, "ones are still being loaded"
    assert service.find_bugs() == []


@pytest.mark.timeout(360)
def test_freed_places_are_taken_without_a_tick(
    service: Service, database: Database, nango: Nango
) -> None:
    """Each slice that ends sends the next: the beat is gone after the first has begun."""
    for seed in range(8):
        nango.add_connection(f"c{seed}", Tenant(seed=seed, users=5))
    service.environment["TENANT_MIRROR_DELTA_SECONDS"] = "600"
    service.start_maintenance()
    service.start_beat()
    found = "select count(*) from sync.connections"
    wait_until(lambda: fetch_scalar(database, found) == 8, what="discovery")
    service.kill("beat")
    service.start_slice_workers(1)
    service.start_beat()
    wait_until(
        lambda: fetch_scalar(database, "select count(*) from sync.runs") > 0, what="the first load"
    )
    service.kill("beat")
    wait_until(lambda: fetch_scalar(database, LOADED) == 8, what="every first load")
    assert service.find_bugs() == []


@pytest.mark.timeout(360)
def test_a_long_slice_gives_its_process_to_what_a_person_asks_for(
    make_service: MakeService, database: Database, nango: Nango, nango_proxy: FaultProxy
) -> None:
    """The only process walks a large customer by the clock, for longer than anybody waits."""
    service = make_service(
        NANGO_HOST=f"http://127.0.0.1:{nango_proxy.port}", TENANT_MIRROR_SLICE_SECONDS="75"
    )
    nango.add_connection("small", Tenant(seed=1, users=5))
    nango.add_connection("large", large(2))
    service.start_worker()
    service.start_maintenance()
    service.start_beat()
    wait_until(lambda: fetch_scalar(database, LOADED) == 2, what="the first loads")
    nango_proxy.delay(0.5)
    walk = (
        "update sync.streams set full_due_at = now() where resource = 'users' and connection_id ="
        " (select id from sync.connections where nango_connection_id = 'large')"
    )
    with database.open_transaction() as connection:
        connection.exec_driver_sql(walk)
    walking = (
        "select count(*) from sync.streams s join sync.connections c on c.id = s.connection_id"
        " where s.phase = 'listing' and s.resource = 'users' and c.nango_connection_id = 'large'"
    )
    wait_until(lambda: fetch_scalar(database, walking) == 1, what="the walk of the large one")
    small = "nango_connection_id = 'small'"
    number = fetch_scalar(database, f"select id from sync.connections where {small}")
    with database.open_transaction() as db:
        request_resync(db, number, None, full=False)
    asked = f"select requested_at is null from sync.connections where {small}"
    wait_until(lambda: bool(fetch_scalar(database, asked)), what="the resync")
    assert fetch_scalar(database, walking) == 1, "the large one is not through"
    nango_proxy.delay(0)
    wait_until(lambda: fetch_scalar(database, walking) == 0, what="the end of the walk")
    assert service.find_bugs() == []
