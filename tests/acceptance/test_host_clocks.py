"""Hosts whose clocks are off, or are set while the service runs: nothing shared goes by them."""

import json
import subprocess
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import redis
from celery import Celery

from models.queues import MAINTENANCE
from models.sink import SinkKind, SinkStart
from sandbox.servers import Servers
from sandbox.tenant import Nango, Tenant
from tests.support.fork_server import run_command
from tests.support.host_clock import HostClock
from tests.support.mirror import Mirror, fetch_scalar
from tests.support.service import (
    MakeService,
    Service,
    assert_survived,
    count_objects,
    is_exact,
    make_every_change,
    wait_until,
)
from tests.support.webhook_receiver import WebhookReceiver, run_receiver
from worker.app import build_configuration
from worker.core.settings import load_settings
from worker.delivery.store import admin
from worker.store.engine import Database

HOUR = 3600
UNDELIVERED = """
    select count(*) from sync.leases l left join events.positions p using (connection_id)
     where l.event_seq > coalesce(p.seq, 0)
"""

MakeClock = Callable[..., HostClock]


@pytest.fixture
def clock_of(tmp_path: Path) -> MakeClock:
    return lambda name, ahead=0: HostClock(tmp_path / f"{name}.clock", ahead)


def command(service: Service, *arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
    return run_command(arguments, {**service.environment, **more})


def status(service: Service, *arguments: str, **more: str) -> str:
    return command(service, "status", *arguments, **more).stdout


def clocks_off(service: Service) -> list[float]:
    found: list[dict[str, Any]] = json.loads(status(service, "--json"))["clocks_off"]
    return [one["seconds"] for one in found]


def tells_of_clock(service: Service, *, told: bool) -> bool:
    return bool(clocks_off(service)) is told


def ticks(database: Database) -> str:
    """When the last tick was run."""
    return str(
        fetch_scalar(database, "select updated_at from sync.service_state where name = 'tick'")
        or ""
    )


def until_ticked(database: Database, what: str, seconds: float = 20) -> None:
    before = ticks(database)
    wait_until(lambda: ticks(database) != before, seconds, what)


@pytest.mark.parametrize("beat", [4, -4, HOUR, -HOUR], ids="beat {:+d} s".format)
def test_a_beat_and_workers_whose_clocks_differ_work_together(
    service: Service, database: Database, nango: Nango, clock_of: MakeClock, beat: int
) -> None:
    tenant = Tenant(seed=47, users=30, groups=4, sites=3)
    nango.add_connection("contoso", tenant)
    service.start_beat(**clock_of("beat", beat).environment)
    service.start_worker(**clock_of("worker", -beat).environment)
    service.start_maintenance()
    wait_until(lambda: is_exact(database, tenant), what="the first load")
    make_every_change(tenant)
    wait_until(lambda: is_exact(database, tenant), what="the changes")
    assert abs(clocks_off(service)[0] + beat) < 2
    side = "behind" if beat > 0 else "ahead of"
    assert f"{abs(beat):,} s {side} Postgres's" in status(service)
    assert_survived(service, database, tenant)


def add_webhook(database: Database, receiver: WebhookReceiver) -> None:
    settings = {"url": receiver.url, "batch": 100, "allow_http": True, "allow_private": True}
    secrets = {"keys": [receiver.secret]}
    new = admin.NewSink("crm", SinkKind.WEBHOOK, settings, secrets, start=SinkStart.OLDEST)
    with database.open_transaction() as db:
        admin.add_sink(db, new, None)


def test_webhooks_of_a_host_whose_clock_is_off_are_taken(
    service: Service, mirror: Mirror, clock_of: MakeClock
) -> None:
    """A receiver refuses what is older or newer than five minutes by its own clock."""
    with run_receiver() as receiver:
        add_webhook(mirror.database, receiver)
        clock = clock_of("relay", HOUR)
        service.start_relay(**clock.environment)
        for ahead in (HOUR, -HOUR):
            clock.set_offset(ahead)
            make_every_change(mirror.tenant)
            mirror.sync()
            wait_until(
                lambda: fetch_scalar(mirror.database, UNDELIVERED) == 0, what="the deliveries"
            )
            assert receiver.requests
            assert all(map(receiver.is_signed, receiver.requests))
            tried = command(service, "sinks", "test", "crm", **clock.environment)
            assert tried.returncode == 0, tried.stderr
        wait_until(
            lambda: [round(off, -1) for off in clocks_off(service)] == [-HOUR], what="the report"
        )


def test_a_pile_of_ticks_is_run_as_one(
    make_service: MakeService, database: Database, servers: Servers
) -> None:
    """The maintenance worker was away, and beat was not."""
    service = make_service(TENANT_MIRROR_TICK_SECONDS="600")
    with Celery("pile", set_as_current=False) as application:
        application.config_from_object(
            build_configuration(load_settings(redis_url=servers.redis_url))
        )
        with application.connection_for_write() as connection:
            for _ in range(400):
                application.send_task("schedule.tick", queue=MAINTENANCE, connection=connection)
    service.start_maintenance()
    wait_until(lambda: bool(ticks(database)), what="the first tick")
    first = ticks(database)
    with redis.Redis.from_url(servers.redis_url) as broker:
        wait_until(lambda: broker.llen(f"tenant-mirror:{MAINTENANCE}") == 0, what="the rest")
    assert service.stop("maintenance") == 0
    assert ticks(database) == first
    assert service.find_bugs() == []


@pytest.mark.timeout(360)
def test_clocks_that_are_set_while_the_service_runs_stop_nothing(
    service: Service, database: Database, nango: Nango, clock_of: MakeClock
) -> None:
    tenant = Tenant(seed=48, users=30, groups=4, sites=12)
    nango.add_connection("contoso", tenant)
    clock = clock_of("host")
    service.start_beat(**clock.environment)
    service.start_worker(**clock.environment)
    service.start_maintenance(**clock.environment)
    wait_until(lambda: is_exact(database, tenant), what="the first load")
    assert fetch_scalar(database, "select count(*) from directory.users") == 30
    assert count_objects(tenant) > 30
    for ahead in (-HOUR, 0, HOUR, 0):
        clock.set_offset(ahead)
        until_ticked(database, f"a tick at {ahead:+d} s")
        make_every_change(tenant)
        wait_until(lambda: is_exact(database, tenant), what=f"the changes at {ahead:+d} s")
        wait_until(partial(tells_of_clock, service, told=bool(ahead)), what="word of the clock")
    assert_survived(service, database, tenant)
