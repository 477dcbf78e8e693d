"""Workers are known by what they do: consuming queues, holding connections."""

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

from sqlalchemy import text

from sandbox.tenant import Nango, Tenant
from tests.support.fork_server import run_command
from tests.support.mirror import Mirror, fetch_scalar
from tests.support.service import Service
from worker.store.engine import Database


def call(service: Service, *arguments: str) -> subprocess.CompletedProcess[str]:
    return run_command(arguments, service.environment)


def status(service: Service) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(call(service, "status", "--json").stdout)
    return found


def wait_until(condition: Callable[[], bool], seconds: float, what: str) -> None:
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, what
        time.sleep(0.5)


def test_a_queue_without_a_worker_is_named_at_once(service: Service, mirror: Mirror) -> None:
    shown = call(service, "status").stdout
    assert "none consumes the queues manual, scheduled, backfill, maintenance" in shown
    assert "No worker consumes manual, scheduled" in call(service, "workers").stdout
    asked = call(service, "resync", "1")
    assert asked.returncode == 75
    assert "requested, but no worker consumes manual, maintenance" in asked.stderr
    wanted = "select requested_at is not null from sync.connections"
    assert fetch_scalar(mirror.database, wanted), "and it is kept for the worker that comes"


def test_frozen_workers_are_shown_within_seconds(
    service: Service, nango: Nango, database: Database
) -> None:
    nango.add_connection("contoso", Tenant(seed=3, users=20, groups=3, sites=2))
    service.start_all()
    wait_until(lambda: not status(service)["unserved_queues"], 60, "nobody reports")
    served = {tuple(one["queues"]) for one in status(service)["workers"]}
    assert served == {("manual", "scheduled", "backfill"), ("maintenance",)}
    succeeded = "select count(*) from sync.runs where state = 'succeeded'"
    wait_until(lambda: fetch_scalar(database, succeeded) > 0, 60, "nothing is synced")
    asked = call(service, "resync", "1")
    assert (asked.returncode, asked.stderr) == (0, "")

    service.send_signal("worker", signal.SIGSTOP)
    silent = ["manual", "scheduled", "backfill"]
    wait_until(lambda: status(service)["unserved_queues"] == silent, 40, "the frozen worker counts")
    asked = call(service, "resync", "1")
    assert asked.returncode == 75
    assert "no worker consumes manual" in asked.stderr
    assert "SILENT for" in call(service, "workers").stdout
    assert "1 silent" in call(service, "status").stdout

    service.send_signal("worker", signal.SIGCONT)
    wait_until(lambda: not status(service)["unserved_queues"], 40, "it is not seen again")
    requested = "select count(*) from sync.connections where requested_at is not null"
    wait_until(lambda: fetch_scalar(database, requested) == 0, 60, "the request was lost")
    service.stop("worker")
    assert status(service)["unserved_queues"] == silent, "it said goodbye"


def test_what_a_worker_holds_is_shown(service: Service, nango: Nango, database: Database) -> None:
    nango.add_connection("contoso", Tenant(seed=3, users=20, groups=3, sites=2))
    service.start_all()
    succeeded = "select count(*) from sync.runs where state = 'succeeded'"
    wait_until(lambda: fetch_scalar(database, succeeded) > 0, 60, "nothing is synced")
    process = fetch_scalar(
        database, "select processes[1] from sync.workers where name like 'worker@%'"
    )
    with database.open_transaction() as db:
        db.execute(
            text("""
                update sync.leases set holder = :holder, token = token + 1,
                       expires_at = clock_timestamp() + interval '1 minute'
            """),
            {"holder": process},
        )
    (worker,) = [one for one in status(service)["workers"] if one["holds"]]
    assert worker["holds"] == ["entra/contoso"]
    assert worker["name"] == f"worker@test:{service.processes['worker'].pid}"
    (told,) = [
        one
        for one in json.loads(call(service, "workers", "--json").stdout)["workers"]
        if one["holds"]
    ]
    assert told["name"] == worker["name"]
    assert [one["connection"] for one in told["holds"]] == ["entra/contoso"]
    assert "entra/contoso" in call(service, "workers").stdout
    assert json.loads(call(service, "status", "1", "--json").stdout)["connections"][0]["activity"][
        "holder"
    ]


def test_a_process_cannot_be_commanded_through_the_broker(service: Service) -> None:
    service.start_all()
    wait_until(lambda: not status(service)["unserved_queues"], 60, "nobody reports")
    for kind, *words in (("inspect", "ping"), ("control", "shutdown")):
        done = subprocess.run(
            [sys.executable, "-m", "celery", "-A", "worker.app", kind, "--timeout", "3", *words],
            env=service.environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode != 0
        assert "No nodes replied" in done.stdout + done.stderr
    assert service.find_ended() == {}
    assert status(service)["unserved_queues"] == []
