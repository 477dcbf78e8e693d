"""Workers that are stopped past their lease and wake up later: they may not write a byte."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from sqlalchemy import text

from sandbox.tenant import Nango, Tenant
from tests.support.fault_proxy import FaultProxy
from tests.support.mirror import fetch_scalar, read_row_versions
from tests.support.service import (
    MakeService,
    Service,
    assert_survived,
    count_objects,
    is_exact,
    make_every_change,
    wait_until,
)
from worker.core.process.identity import parse_identity
from worker.store.engine import Database

HOLDER = "select holder from sync.leases where connection_id = :id"
SOME = "select count(*) > 1500 from directory.users where connection_id = :id"
OPEN = (
    "select count(*) from pg_stat_activity where datname = current_database()"
    " and application_name = 'tenant-mirror' and pid <> pg_backend_pid()"
    " and state <> 'idle'"
)
_OLD = (
    " from pg_stat_activity where datname = current_database()"
    " and application_name = 'tenant-mirror' and pid <> pg_backend_pid()"
    " and state <> 'idle' and xact_start < clock_timestamp() - interval '3 seconds'"
    " and wait_event = 'ClientRead'"
)
LEFT_OPEN = f"select count(*) {_OLD}"
END_THEM = f"select count(pg_terminate_backend(pid)) {_OLD}"
WAITING = (
    "select count(*) from pg_locks where not granted and locktype = 'relation'"
    " and relation = 'directory.users'::regclass"
)
WALKS = "select sum(walk_id) from sync.streams where connection_id = :id"


def holder(database: Database, connection_id: int = 1) -> int | None:
    """The process that has the lease, if one has it."""
    found = parse_identity(str(fetch_scalar(database, HOLDER, id=connection_id)))
    return None if found is None else found.pid


def stop_between_pages(service: Service, database: Database, *, whole: bool) -> int:
    """Stop a worker's child, or all of the worker, while it waits for a page; the child's pid."""
    wait_until(lambda: bool(fetch_scalar(database, SOME, id=1)), what="some pages")
    children: list[int] = []

    def stopped() -> bool:
        child = holder(database)
        if child is None:
            return False
        if whole:
            service.send_signal("worker", signal.SIGSTOP)
        else:
            os.kill(child, signal.SIGSTOP)
        if fetch_scalar(database, OPEN) == 0 and holder(database) == child:
            children.append(child)
            return True
        wake(service, child, whole=whole)
        return False

    wait_until(stopped, what="a moment without a transaction")
    return children[-1]


def wake(service: Service, child: int, *, whole: bool) -> None:
    if whole:
        service.send_signal("worker", signal.SIGCONT)
    else:
        os.kill(child, signal.SIGCONT)


@pytest.mark.timeout(360)
@pytest.mark.parametrize("whole", [False, True], ids=["child", "whole worker"])
def test_a_worker_that_wakes_up_past_its_lease_writes_nothing(
    make_service: MakeService,
    database: Database,
    nango: Nango,
    nango_proxy: FaultProxy,
    whole: bool,
) -> None:
    service = make_service(NANGO_HOST=f"http://127.0.0.1:{nango_proxy.port}")
    tenant = Tenant(seed=71, users=8000, groups=10, sites=20)
    nango.add_connection("contoso", tenant)
    nango_proxy.delay(0.3)
    service.start_all()
    zombie = stop_between_pages(service, database, whole=whole)
    nango_proxy.heal()
    service.start_worker("other")
    wait_until(lambda: is_exact(database, tenant), 60, what="the rest of the load")
    assert_survived(service, database, tenant, created=count_objects(tenant))
    rows, walks = read_row_versions(database), fetch_scalar(database, WALKS, id=1)
    wake(service, zombie, whole=whole)
    wait_until(
        lambda: "lease held by another process" in service.read_log("worker"), what="the refusal"
    )
    assert read_row_versions(database) == rows
    assert fetch_scalar(database, WALKS, id=1) >= walks
    make_every_change(tenant)
    wait_until(lambda: is_exact(database, tenant), what="the changes")
    assert_survived(service, database, tenant)


@contextmanager
def locked(database: Database, table: str) -> Iterator[None]:
    """Nobody else can write a table meanwhile."""
    with database.open_transaction() as db:
        db.execute(text(f"lock table {table} in exclusive mode"))
        yield


@pytest.mark.timeout(600)
@pytest.mark.parametrize("ended_by", ["hand", pytest.param("timeout", marks=pytest.mark.long)])
def test_a_worker_that_is_stopped_within_a_transaction_holds_up_its_own_connection_only(
    service: Service, database: Database, nango: Nango, ended_by: str
) -> None:
    """Until its session is ended, which a tick does after two minutes: Postgres never would."""
    tenant, other = (Tenant(seed=seed, users=1500, groups=5, sites=20) for seed in (72, 73))
    nango.add_connection("contoso", tenant)
    service.start_maintenance()
    service.start_beat()
    with locked(database, "directory.users"):
        service.start_worker()
        wait_until(lambda: bool(fetch_scalar(database, WAITING)), what="a page that waits")
        zombie = holder(database)
        assert zombie is not None, "what waits has the lease"
        os.kill(zombie, signal.SIGSTOP)
    wait_until(lambda: bool(fetch_scalar(database, LEFT_OPEN)), what="a transaction left open")
    lapsed = "select expires_at < clock_timestamp() from sync.leases where connection_id = 1"
    wait_until(lambda: bool(fetch_scalar(database, lapsed)), what="the end of the lease")
    nango.add_connection("fabrikam", other)
    service.start_worker("other")
    wait_until(lambda: is_exact(database, other, 2), what="the other connection's first load")
    other.update_user(first_user(other), displayName="Grace")
    wait_until(lambda: is_exact(database, other, 2), what="the other connection's changes")

    def loaded() -> bool:
        """A zombie has more than one session: one may have waited for the other."""
        if ended_by == "hand":
            fetch_scalar(database, END_THEM)
        return is_exact(database, tenant)

    wait_until(loaded, 60 if ended_by == "hand" else 200, what="the first load")
    os.kill(zombie, signal.SIGCONT)
    make_every_change(tenant)
    wait_until(lambda: is_exact(database, tenant), what="the changes")
    assert_survived(service, database, tenant)


def first_user(tenant: Tenant) -> str:
    with tenant.lock:
        return str(tenant.users.props_at(next(iter(tenant.users.iterate_live())))["id"])
