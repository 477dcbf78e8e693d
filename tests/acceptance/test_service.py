"""The service as it runs: real beat, real workers, a real broker, and what befalls them."""

import re
import time
import uuid
from collections import Counter
from pathlib import Path

import pytest
import redis
from celery import Celery
from sqlalchemy import text

from sandbox.servers import Servers
from sandbox.tenant import Nango, Tenant
from tests.support.fault_proxy import FaultProxy
from tests.support.mirror import fetch_scalar, verify_connection
from tests.support.service import (
    MakeService,
    Service,
    assert_survived,
    count_objects,
    is_exact,
    make_every_change,
    wait_until,
)
from worker.app import build_configuration
from worker.core.settings import load_settings
from worker.store.engine import Database


@pytest.mark.timeout(360)
def test_a_connection_is_found_mirrored_and_kept_up_to_date(
    service: Service, database: Database, nango: Nango
) -> None:
    tenant = Tenant(seed=41, users=300, groups=10, sites=5)
    nango.add_connection("contoso", tenant)
    service.start_all()
    wait_until(lambda: is_exact(database, tenant), what="the first load")
    tenant.mutate(30)
    wait_until(lambda: is_exact(database, tenant), what="the changes")
    assert verify_connection(database).problems == []
    assert fetch_scalar(database, "select count(*) from sync.runs where trigger = 'backfill'") == 1
    assert service.stop("worker") == 0
    assert service.stop("beat") == 0


@pytest.mark.timeout(360)
def test_housekeeping_runs_at_the_first_tick_and_not_with_each_start_of_beat(
    service: Service, database: Database
) -> None:
    """An hour that has passed counts, wherever beat was meanwhile."""
    last = "select max(updated_at) from sync.service_state where name = 'housekeeping-finished'"
    ticks = "select updated_at from sync.service_state where name = 'tick'"
    service.start_maintenance()
    service.start_beat()
    wait_until(lambda: fetch_scalar(database, last) is not None, what="the first housekeeping")
    first = fetch_scalar(database, last)
    service.stop("beat")
    began = fetch_scalar(database, "select clock_timestamp()")
    service.start_beat()
    wait_until(lambda: fetch_scalar(database, ticks) > began, what="a tick of the second beat")
    assert fetch_scalar(database, last) == first, "it is not due yet"
    service.stop("beat")
    with database.open_transaction() as db:
        db.execute(
            text(
                "update sync.service_state set updated_at = updated_at - interval '1 hour'"
                " where name like 'housekeeping-%'"
            )
        )
    service.start_beat()
    wait_until(lambda: fetch_scalar(database, last) > began, what="the housekeeping that is due")


@pytest.mark.timeout(360)
def test_a_killed_worker_costs_nothing_but_time(
    service: Service, database: Database, nango: Nango
) -> None:
    tenant = Tenant(seed=42, users=12_000, groups=20)
    nango.add_connection("contoso", tenant)
    service.start_all()
    some = "select count(*) > 2000 from directory.users"
    wait_until(lambda: bool(fetch_scalar(database, some)), what="some pages")
    service.kill("worker")
    service.start_worker()
    wait_until(lambda: is_exact(database, tenant), 90, what="the rest of the load")
    assert verify_connection(database).problems == []
    told = "select count(*) from events.change_events where resource = 'users'"
    assert fetch_scalar(database, told) == 12_000


@pytest.mark.timeout(360)
def test_a_broker_that_forgets_everything_and_a_second_beat_do_no_harm(
    service: Service, database: Database, nango: Nango, servers: Servers
) -> None:
    tenant = Tenant(seed=43, users=200, groups=10)
    nango.add_connection("contoso", tenant)
    service.start_all()
    service.start_beat("second beat")
    wait_until(lambda: is_exact(database, tenant), what="the first load")
    broker = redis.Redis.from_url(servers.redis_url)
    for _ in range(3):
        tenant.mutate(10)
        broker.flushall()
        time.sleep(0.5)
    wait_until(lambda: is_exact(database, tenant), what="the changes")
    assert verify_connection(database).problems == []
    with database.open_transaction() as db:
        running = db.execute(text("select count(*) from sync.runs where state='failed'"))
        assert running.scalar_one() == 0


def send_slices(redis_url: str, number: int) -> None:
    """Messages for connection 1 that nobody has asked for, on all queues in turn."""
    queues = ("backfill", "scheduled", "manual")
    with Celery("doubled", set_as_current=False) as application:
        application.config_from_object(build_configuration(load_settings(redis_url=redis_url)))
        with application.connection_for_write() as connection:
            for turn in range(number):
                queue = queues[turn % len(queues)]
                application.send_task("sync.slice", (1, queue), queue=queue, connection=connection)


@pytest.mark.timeout(360)
def test_messages_that_come_many_times_and_two_workers_at_one_connection_do_no_harm(
    make_service: MakeService,
    database: Database,
    nango: Nango,
    nango_proxy: FaultProxy,
    servers: Servers,
) -> None:
    service = make_service(NANGO_HOST=f"http://127.0.0.1:{nango_proxy.port}")
    tenant = Tenant(seed=44, users=5000, groups=10, sites=20)
    nango.add_connection("contoso", tenant)
    nango_proxy.delay(0.2)
    service.start_all()
    service.start_worker("other")
    wait_until(
        lambda: bool(fetch_scalar(database, "select count(*) from sync.runs")), what="the first run"
    )
    send_slices(servers.redis_url, 12)

    def refused() -> bool:
        logs = service.read_log("worker") + service.read_log("other")
        return "lease held by another process" in logs

    wait_until(refused, what="the refusal of a second slice")
    nango_proxy.heal()
    wait_until(lambda: is_exact(database, tenant), what="the first load")
    assert_survived(service, database, tenant, created=count_objects(tenant))
    for _ in range(3):
        make_every_change(tenant)
        send_slices(servers.redis_url, 12)
        wait_until(lambda: is_exact(database, tenant), what="the changes")
    assert_survived(service, database, tenant)


def user_pages(nango: Nango) -> Counter[str]:
    """How often each page of the listing of users was asked for, batched or not."""
    asked = [entry.request.target for entry in list(nango.log)]
    asked += [
        target
        for entry in list(nango.log)
        for target in re.findall(r'"url":"([^"]+)"', entry.request.body.decode())
    ]
    return Counter(
        re.sub(r".*?/users\?", "", target)
        for target in asked
        if "/users?" in target and "deltatoken" not in target.lower()
    )


@pytest.mark.timeout(480)
def test_a_worker_that_is_asked_to_end_during_a_large_first_load_ends_and_loses_nothing(
    make_service: MakeService, database: Database, nango: Nango, nango_proxy: FaultProxy
) -> None:
    service = make_service(NANGO_HOST=f"http://127.0.0.1:{nango_proxy.port}")
    tenant = Tenant(seed=45, users=20_000, groups=10, sites=5)
    nango.add_connection("contoso", tenant)
    nango_proxy.delay(0.3)
    service.start_all()
    some = "select count(*) > 2000 from directory.users"
    wait_until(lambda: bool(fetch_scalar(database, some)), what="some pages")
    walk = "select walk_id from sync.streams where resource = 'users' and phase = 'listing'"
    before = fetch_scalar(database, walk)
    assert before is not None
    began = time.monotonic()
    assert service.stop("worker") == 0
    assert time.monotonic() - began < 30, "far less than a slice: it ends after its page"
    held = "select count(*) from sync.leases where expires_at is not null"
    assert fetch_scalar(database, held) == 0
    assert fetch_scalar(database, walk) == before, "the walk is still under way"
    rows = fetch_scalar(database, "select count(*) from directory.users")
    nango_proxy.heal()
    service.start_worker()
    wait_until(lambda: is_exact(database, tenant), 90, what="the rest of the load")
    assert_survived(service, database, tenant, created=count_objects(tenant))
    assert rows < 20_000
    pages = user_pages(nango)
    assert len(pages) >= 20
    assert sum(pages.values()) <= len(pages) + 3, "pages that were read ahead are read again"


@pytest.mark.timeout(360)
def test_the_key_of_nango_is_replaced_without_a_restart_or_a_lost_request(
    make_service: MakeService, database: Database, nango: Nango, tmp_path: Path
) -> None:
    """The recipe of docs/how-to/rotate-secrets.md: the new key, the file, then the old key ends."""
    file, first = tmp_path / "nango-key", nango.key
    file.write_text(first)
    service = make_service(NANGO_SECRET_KEY="", NANGO_SECRET_KEY_FILE=str(file))
    tenant = Tenant(seed=43, users=200, groups=5, sites=2)
    nango.add_connection("contoso", tenant)
    service.start_all()
    wait_until(lambda: is_exact(database, tenant), what="the first load")
    try:
        nango.former_keys.add(first)
        nango.key = str(uuid.uuid4())
        file.with_suffix(".new").write_text(f"{nango.key}\n")
        file.with_suffix(".new").replace(file)

        def is_taken_up() -> bool:
            latest = list(nango.log)[-5:]
            header = f"Bearer {nango.key}"
            return all(one.request.headers.get("authorization") == header for one in latest)

        wait_until(is_taken_up, what="calls with the new key")
        nango.former_keys.clear()
        tenant.mutate(30)
        wait_until(lambda: is_exact(database, tenant), what="the changes")
        assert [one for one in nango.log if one.status == 401] == []
        failed = "select count(*) from sync.runs where state not in ('succeeded', 'running')"
        assert fetch_scalar(database, failed) == 0
    finally:
        nango.key, nango.former_keys = first, set()
