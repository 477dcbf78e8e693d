"""The service as it runs: real beat, real workers, a real broker, and what befalls them."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import redis
from sqlalchemy import text

from sandbox.servers import Servers
from sandbox.tenant import Nango, Server, Tenant
from tests.support.mirror import checked, mirrored, scalar
from worker.store.engine import Database

CELERY = [sys.executable, "-m", "celery", "--app", "worker.app", "--quiet"]
PLAIN = ["--without-gossip", "--without-mingle", "--loglevel", "WARNING"]


class Service:
    """Beat and workers as processes."""

    def __init__(self, environment: dict[str, str], logs: Path) -> None:
        self.environment = environment
        self.logs = logs
        self.running: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, name: str, *arguments: str) -> None:
        with (self.logs / f"{name}.log").open("ab") as log:
            self.running[name] = subprocess.Popen(
                [*CELERY, *arguments],
                env=self.environment,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def start_worker(self, name: str = "worker") -> None:
        queues = "manual,scheduled,backfill"
        self.start(name, "worker", "-Q", queues, "-c", "1", "-n", f"{name}@test", *PLAIN)

    def start_all(self) -> None:
        self.start_worker()
        self.start(
            "maintenance",
            "worker",
            "-Q",
            "maintenance",
            "-c",
            "1",
            "-n",
            "maintenance@test",
            *PLAIN,
        )
        self.start_beat()

    def start_beat(self, name: str = "beat") -> None:
        self.start(
            name,
            "beat",
            "--scheduler",
            "celery.beat:Scheduler",
            "--pidfile",
            "",
            "--loglevel",
            "WARNING",
        )

    def kill(self, name: str) -> None:
        process = self.running.pop(name)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()

    def stop(self, name: str) -> int:
        process = self.running.pop(name)
        process.send_signal(signal.SIGTERM)
        return process.wait(timeout=60)

    def close(self) -> None:
        for name in list(self.running):
            self.kill(name)


@pytest.fixture
def service(
    database_url: str, servers: Servers, nango: Nango, _shared_server: Server, tmp_path: Path
) -> Iterator[Service]:
    redis.Redis.from_url(servers.redis_url).flushall()
    kept = {k: v for k, v in os.environ.items() if k in ("PATH", "HOME", "LANG")}
    started = Service(
        {
            **kept,
            "DATABASE_URL": database_url,
            "REDIS_URL": servers.redis_url,
            "NANGO_HOST": _shared_server.url,
            "NANGO_SECRET_KEY": nango.key,
            "TENANT_MIRROR_TICK_SECONDS": "0.5",
            "TENANT_MIRROR_DELTA_SECONDS": "2",
            "TENANT_MIRROR_ROLES_SECONDS": "2",
            "TENANT_MIRROR_SITES_SECONDS": "2",
            "TENANT_MIRROR_DISCOVERY_SECONDS": "1",
            "TENANT_MIRROR_LEASE_SECONDS": "5",
            "TENANT_MIRROR_CALL_SECONDS": "2",
        },
        tmp_path,
    )
    yield started
    started.close()


def until(holds: Callable[[], bool], seconds: float = 45, what: str = "it") -> None:
    """Wait for something to become true."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if holds():
            return
        time.sleep(0.2)
    raise AssertionError(f"{what} did not happen within {seconds} s")


def is_exact(database: Database, tenant: Tenant) -> bool:
    return mirrored(database) == tenant.truth()


@pytest.mark.timeout(180)
def test_a_connection_is_found_mirrored_and_kept_up_to_date(
    service: Service, database: Database, nango: Nango
) -> None:
    tenant = Tenant(seed=41, users=300, groups=10, sites=5)
    nango.add_connection("contoso", tenant)
    service.start_all()
    until(lambda: is_exact(database, tenant), what="the first load")
    tenant.mutate(30)
    until(lambda: is_exact(database, tenant), what="the changes")
    assert checked(database).problems == []
    assert scalar(database, "select count(*) from sync.runs where trigger = 'backfill'") == 1
    assert service.stop("worker") == 0
    assert service.stop("beat") == 0


@pytest.mark.timeout(180)
def test_a_killed_worker_costs_nothing_but_time(
    service: Service, database: Database, nango: Nango
) -> None:
    tenant = Tenant(seed=42, users=12_000, groups=20)
    nango.add_connection("contoso", tenant)
    service.start_all()
    some = "select count(*) > 2000 from directory.users"
    until(lambda: bool(scalar(database, some)), what="some pages")
    service.kill("worker")
    service.start_worker()
    until(lambda: is_exact(database, tenant), 90, what="the rest of the load")
    assert checked(database).problems == []
    told = "select count(*) from events.change_events where resource = 'users'"
    assert scalar(database, told) == 12_000


@pytest.mark.timeout(180)
def test_a_broker_that_forgets_everything_and_a_second_beat_do_no_harm(
    service: Service, database: Database, nango: Nango, servers: Servers
) -> None:
    tenant = Tenant(seed=43, users=200, groups=10)
    nango.add_connection("contoso", tenant)
    service.start_all()
    service.start_beat("second beat")
    until(lambda: is_exact(database, tenant), what="the first load")
    broker = redis.Redis.from_url(servers.redis_url)
    for _ in range(3):
        tenant.mutate(10)
        broker.flushall()
        time.sleep(0.5)
    until(lambda: is_exact(database, tenant), what="the changes")
    assert checked(database).problems == []
    with database.begin() as connection:
        running = connection.execute(text("select count(*) from sync.runs where state='failed'"))
        assert running.scalar_one() == 0
