"""Kill -9 of a worker's child or of its main process, at every point between fetch and next task.

Beat and the maintenance worker stand; each test brings a tenant of its own and a worker that
dies once at a point. A process manager restarts what died; the rest is the service's own doing.
"""

import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import pytest
import redis

from sandbox.servers import Servers
from sandbox.tenant import Nango, Server, Tenant, serve
from tests.support.databases import DatabaseFactory
from tests.support.mirror import fetch_scalar
from tests.support.service import (
    Service,
    assert_survived,
    is_exact,
    make_every_change,
    resend_lost,
    wait_until,
    wait_until_exact,
)
from worker.core.process.failpoints import SYNC_FAILPOINTS
from worker.store.engine import Database
from worker.store.state.connections import request_resync

OF_THE_TICK = ("claimed", "dispatched")
CHILD_AND_PARENT = ("child", "parent")
LEFT_OUT: dict[str, object] = {"leave_out": {"users": ["mobilePhone"]}}
"""Settings of a customer by which values are removed."""


@dataclass
class Standing:
    """What all tests of this module share."""

    service: Service
    database: Database
    nango: Nango
    number: int = 0

    def rest(self) -> None:
        """Nothing is left of the test before: its worker, its tenant, its logs."""
        if "worker" in self.service.processes:
            self.service.kill("worker")
        if self.number:
            self.nango.remove_connection(self.name)
            with self.database.open_transaction() as db:
                db.exec_driver_sql("update sync.connections set status = 'retired'")
        self.service.empty_logs()

    @property
    def name(self) -> str:
        return f"contoso-{self.number}"

    def set_metadata(self, settings: dict[str, object]) -> None:
        """Let the customer have these settings in Nango, and none besides."""
        (connection,) = self.nango.connections
        connection.metadata = {"tenant_mirror": settings}

    def enrol(self, tenant: Tenant) -> int:
        """Connect a tenant; our id for it once it is found."""
        self.number += 1
        self.nango.add_connection(self.name, tenant)
        latest = "select id from sync.connections where nango_connection_id = :name"

        def found() -> bool:
            return fetch_scalar(self.database, latest, name=self.name) is not None

        wait_until(found, what="discovery")
        return int(fetch_scalar(self.database, latest, name=self.name))


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with serve(Nango(rate_limit=None)) as running:
        yield running


@pytest.fixture(scope="module")
def standing(
    cluster: DatabaseFactory,
    servers: Servers,
    server: Server,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Standing]:
    with redis.Redis.from_url(servers.redis_url) as broker:
        broker.flushall()
    url = cluster.create_migrated()
    environment = {
        "DATABASE_URL": url,
        "REDIS_URL": servers.redis_url,
        "NANGO_HOST": server.url,
        "NANGO_SECRET_KEY": server.nango.key,
        "TENANT_MIRROR_RESOURCES_OFF": "",
    }
    service = Service(environment, tmp_path_factory.mktemp("logs"))
    database = Database(url)
    service.start_maintenance()
    service.start_beat()
    yield Standing(service, database, server.nango)
    service.close()
    database.close()
    cluster.drop(url)


class Victim:
    """A process that will die once at a point, and that is started again if all of it dies."""

    def __init__(self, service: Service, point: str, who: str, mark: Path) -> None:
        self.service = service
        self.of_the_tick = point.partition(":")[0] in OF_THE_TICK
        self.is_of_clearing = point == "cleared-batch"
        self.name = "maintenance" if self.of_the_tick else "worker"
        self.who = who
        self.mark = mark
        self.orders = {
            "TENANT_MIRROR_CRASH_AT": point,
            "TENANT_MIRROR_CRASH_WHO": who,
            "TENANT_MIRROR_CRASH_MARK": str(mark),
        }

    def start(self) -> None:
        if self.of_the_tick:
            self.service.kill("maintenance")
            self.service.start_maintenance(**self.orders)
        else:
            self.service.start_worker(**self.orders)

    @property
    def is_dead(self) -> bool:
        return self.mark.exists()

    def revive(self) -> None:
        """Only a main process needs somebody to start it again."""
        if self.who == "parent":
            assert self.service.wait_for_end(self.name) == -9
            if self.of_the_tick:
                self.service.start_maintenance()
            else:
                self.service.start_worker()


def small(seed: int) -> Tenant:
    """Two pages of users, and something of everything else."""
    return Tenant(seed=seed, users=1100, groups=4, sites=9)


def bring_back_values(database: Database, connection_id: int) -> None:
    """Once the customer's settings leave nothing out any more, ask for the walk that brings it."""
    left_out = "select dropped from sync.streams where connection_id = :id and resource = 'users'"

    def are_followed() -> bool:
        resend_lost(database)  # what died may have taken a message with it
        return fetch_scalar(database, left_out, id=connection_id) is None

    wait_until(are_followed, what="the settings")
    with database.open_transaction() as db:
        request_resync(db, connection_id, ["users"], full=True)


def dies_and_goes_on(
    standing: Standing, tenant: Tenant, connection_id: int, victim: Victim
) -> None:
    """Wait for the death, and see that the service goes on by itself."""
    database = standing.database

    def is_dead() -> bool:
        # The kill that made way for the victim may have lost a message; its claim outlasts a test.
        resend_lost(database)
        return victim.is_dead

    def is_dead_or_done() -> bool:
        return is_dead() or is_exact(database, tenant, connection_id)

    # A full walk that begins after the changes finds them by its sweep, and passes no point of a
    # round: the changes after it do.
    for _ in range(0 if victim.is_of_clearing else 3):
        wait_until(is_dead_or_done, what="the death or the end of the sync")
        if victim.is_dead:
            break
        make_every_change(tenant)
    if victim.is_of_clearing and not victim.is_dead:
        wait_until(lambda: is_exact(database, tenant, connection_id), what="the first load")
        standing.set_metadata(LEFT_OUT)
    wait_until(is_dead, what="the death")
    victim.revive()
    if victim.is_of_clearing:
        standing.set_metadata({})
        bring_back_values(database, connection_id)
    make_every_change(tenant)
    if victim.of_the_tick:
        wait_until_exact(database, tenant, connection_id, what="the recovery")
    else:
        wait_until(lambda: is_exact(database, tenant, connection_id), what="the recovery")


@pytest.mark.timeout(240)
@pytest.mark.parametrize(
    ("point", "who"), [(name, CHILD_AND_PARENT[n % 2]) for n, name in enumerate(SYNC_FAILPOINTS)]
)
def test_a_process_that_dies_anywhere_costs_nothing_but_time(
    standing: Standing, tmp_path: Path, point: str, who: str
) -> None:
    standing.rest()
    victim = Victim(standing.service, point, who, tmp_path / "died")
    victim.start()
    if victim.of_the_tick:
        standing.service.start_worker()
    tenant = small(100 + SYNC_FAILPOINTS.index(point))
    connection_id = standing.enrol(tenant)
    dies_and_goes_on(standing, tenant, connection_id, victim)
    assert_survived(standing.service, standing.database, tenant, connection_id=connection_id)


PHASES = ("first load", "deltas", "full walk")
MANY_TIMES = [
    (f"{point}:{number}", phase, CHILD_AND_PARENT[number % 2])
    for point in ("lease-taken", "opened", "page-fetched", "page-written", "page-committed")
    for number in (2, 5)
    for phase in PHASES
]


@pytest.mark.long
@pytest.mark.timeout(360)
@pytest.mark.parametrize(
    ("point", "phase", "who"), [*product(SYNC_FAILPOINTS, PHASES, CHILD_AND_PARENT), *MANY_TIMES]
)
def test_every_point_in_every_phase(
    standing: Standing, tmp_path: Path, point: str, phase: str, who: str
) -> None:
    standing.rest()
    database = standing.database
    tenant = small(zlib.crc32(f"{point} {who} {phase}".encode()))
    victim = Victim(standing.service, point, who, tmp_path / "died")
    if phase != "first load":
        connection_id = standing.enrol(tenant)
        standing.service.start_worker()
        wait_until(lambda: is_exact(database, tenant, connection_id), what="the first load")
        standing.service.kill("worker")
    victim.start()
    if victim.of_the_tick:
        standing.service.start_worker()
    if phase == "first load":
        connection_id = standing.enrol(tenant)
    if phase == "full walk":
        with database.open_transaction() as db:
            request_resync(db, connection_id, None, full=True)
    dies_and_goes_on(standing, tenant, connection_id, victim)
    asked = "select requested_at is not null from sync.connections where id = :id"
    wait_until(
        lambda: not fetch_scalar(database, asked, id=connection_id), what="the end of the resync"
    )
    assert_survived(standing.service, database, tenant, connection_id=connection_id)
