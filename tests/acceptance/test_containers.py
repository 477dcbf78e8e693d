"""Containers that share a host name and count the same pids mistake no process for another."""

import json
from typing import Any

import pytest

from models.queues import MAINTENANCE, SLICE_QUEUES
from sandbox.tenant import Nango, Tenant
from tests.support.fault_proxy import FaultProxy
from tests.support.fork_server import run_command
from tests.support.mirror import fetch_scalar
from tests.support.pid_namespaces import wrap_in_pid_namespace
from tests.support.service import (
    CELERY,
    WORKER_OPTIONS,
    MakeService,
    Service,
    assert_survived,
    is_exact,
    wait_until,
)
from worker.store.engine import Database


def start_in_container(service: Service, name: str, node: str, queues: str) -> None:
    command = [*CELERY, "worker", "-Q", queues, "-c", "1", "-n", f"{node}@test", *WORKER_OPTIONS]
    service.launch(name, wrap_in_pid_namespace(command))


def living_workers(service: Service) -> list[dict[str, Any]]:
    done = run_command(["status", "--json"], service.environment)
    found: list[dict[str, Any]] = json.loads(done.stdout)["workers"]
    return [worker for worker in found if worker["is_alive"]]


@pytest.mark.timeout(360)
def test_workers_in_containers_of_one_host_name_leave_each_others_work_alone(
    make_service: MakeService, database: Database, nango: Nango, nango_proxy: FaultProxy
) -> None:
    service = make_service(NANGO_HOST=f"http://127.0.0.1:{nango_proxy.port}")
    tenant = Tenant(seed=46, users=4000, groups=10, sites=5)
    nango.add_connection("contoso", tenant)
    nango_proxy.delay(0.3)
    start_in_container(service, "maintenance", "maintenance", MAINTENANCE)
    for name in ("worker", "twin"):
        start_in_container(service, name, "worker", ",".join(SLICE_QUEUES))
    wait_until(lambda: len(living_workers(service)) == 3, what="a line for each worker")
    twins = [one["name"] for one in living_workers(service) if one["name"].startswith("worker@")]
    assert twins == ["worker@test:1"] * 2, "equal in all that a person knows them by"
    service.start_beat()
    wait_until(lambda: is_exact(database, tenant), 90, what="the first load")
    for name in ("worker", "twin", "maintenance"):
        assert "lease held by another process" not in service.read_log(name), name
    assert fetch_scalar(database, "select count(*) from sync.runs where trigger = 'backfill'") == 1
    service.kill("twin")
    wait_until(lambda: len(living_workers(service)) == 2, what="one line less")
    assert_survived(service, database, tenant)
