"""Runs the service for acceptance tests: real beat and workers as processes.

``assert_survived`` is what all of them come to: whatever befell the service, the mirror is exact,
its events tell it without a gap, and no process has died of anything but our own hand.
"""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from sqlalchemy import text

from models.queues import MAINTENANCE, SLICE_QUEUES, WORKER_QUEUES
from sandbox.tenant import Tenant
from tests.support import fork_server
from tests.support.mirror import (
    LATER_RESOURCES,
    compute_mirror_truth,
    live_counts,
    verify_connection,
)
from worker.core.errors import ServerUnavailable
from worker.store.engine import Database
from worker.tasks.dispatch import CLAIM_GRACE_SECONDS

CELERY = [*fork_server.CELERY, "--app", "worker.app", "--quiet"]
RELAY = [*fork_server.COMMAND, "relay"]
WORKER_OPTIONS = ["--without-gossip", "--without-mingle", "--loglevel", "WARNING"]
QUICK_CLOCKS = {
    "TENANT_MIRROR_TICK_SECONDS": "0.4",
    "TENANT_MIRROR_DELTA_SECONDS": "1",
    "TENANT_MIRROR_ROLES_SECONDS": "1",
    "TENANT_MIRROR_SITES_SECONDS": "1",
    "TENANT_MIRROR_APP_ROLES_SECONDS": "1",
    "TENANT_MIRROR_OTHER_APP_ROLES_SECONDS": "1",
    "TENANT_MIRROR_DISCOVERY_SECONDS": "1",
    "TENANT_MIRROR_LEASE_SECONDS": "5",
    "TENANT_MIRROR_CALL_SECONDS": "2",
}
"""Clocks that a test can wait for."""
FEW_RESOURCES = {"TENANT_MIRROR_RESOURCES_OFF": ",".join(LATER_RESOURCES)}
"""Of lists that are read each second, those that are empty anyway would cost as much as others."""

_COMPLAINT = re.compile(r'"level": "(warning|error|critical)"|Error')
_BUG = re.compile(r"raised unexpected|Unrecoverable error|\bTypeError\b|\bAttributeError\b")


class Service:
    """Beat and workers as processes."""

    def __init__(self, environment: Mapping[str, str], logs: Path) -> None:
        kept = {k: v for k, v in os.environ.items() if k in ("PATH", "HOME", "LANG")}
        self.environment = {**kept, **QUICK_CLOCKS, **FEW_RESOURCES, **environment}
        self.logs = logs
        self.processes: dict[str, subprocess.Popen[bytes] | fork_server.ForkedProcess] = {}

    def start(self, name: str, *arguments: str, **more: str) -> None:
        """Start a program of Celery's; ``more`` is added to its environment."""
        self.launch(name, [*CELERY, *arguments], **more)

    def launch(self, name: str, command: Sequence[str], **more: str) -> None:
        """Start any program as one of the service's processes."""
        environment = {**self.environment, **more}
        if fork_server.can_fork(command, environment):
            self.processes[name] = fork_server.get_fork_server().start(
                command, environment, self._get_log_path(name)
            )
            return
        with self._get_log_path(name).open("ab") as log:
            self.processes[name] = subprocess.Popen(
                command,
                env=environment,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def start_worker(self, name: str = "worker", **more: str) -> None:
        self._start_worker(name, ",".join(SLICE_QUEUES), 1, **more)

    def start_shared_worker(self, processes: int) -> None:
        """One worker for slices of every kind."""
        self._start_worker("worker", ",".join(SLICE_QUEUES), processes)

    def start_slice_workers(self, processes: int) -> None:
        """A worker for what is prompt and one for first loads, as the Procfile has them."""
        for name in ("worker", "backfill"):
            self._start_worker(name, WORKER_QUEUES[name], processes)

    def start_maintenance(self, **more: str) -> None:
        self._start_worker("maintenance", MAINTENANCE, 1, **more)

    def _start_worker(self, name: str, queues: str, processes: int, **more: str) -> None:
        served = ["-Q", queues, "-c", str(processes)]
        self.start(name, "worker", *served, "-n", f"{name}@test", *WORKER_OPTIONS, **more)

    def start_beat(self, name: str = "beat", **more: str) -> None:
        scheduler = ["--scheduler", "celery.beat:Scheduler", "--pidfile", ""]
        self.start(name, "beat", *scheduler, "--loglevel", "WARNING", **more)

    def start_relay(self, name: str = "relay", **more: str) -> None:
        self.launch(name, RELAY, **more)

    def start_all(self) -> None:
        self.start_worker()
        self.start_maintenance()
        self.start_beat()

    def kill(self, name: str) -> None:
        """Kill -9 of a process with its children."""
        self.send_signal(name, signal.SIGKILL)
        self.processes.pop(name).wait()

    def send_signal(self, name: str, number: signal.Signals) -> None:
        """A signal for a process and its children."""
        os.killpg(self.processes[name].pid, number)

    def stop(self, name: str, timeout: float = 60) -> int:
        """End a process as a process manager does; its exit code."""
        process = self.processes.pop(name)
        process.send_signal(signal.SIGTERM)
        return process.wait(timeout=timeout)

    def close(self) -> None:
        """Kill what still runs; what it complained of is shown where the test failed."""
        for name in list(self.processes):
            self.kill(name)
        for log in sorted(self.logs.glob("*.log")):
            complaints = [line for line in log.read_text().splitlines() if _COMPLAINT.search(line)]
            for line in complaints[-10:]:
                sys.stderr.write(f"{log.name}: {line[:1000]}\n")

    def wait_for_end(self, name: str, patience: float = 30) -> int:
        """Wait until a process has ended by itself; what is left of it is killed."""
        process = self.processes.pop(name)
        code = process.wait(timeout=patience)
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except ProcessLookupError:
            return code
        return code

    def find_ended(self) -> dict[str, int]:
        """Processes that have ended by themselves, with their exit codes."""
        codes = {name: process.poll() for name, process in self.processes.items()}
        return {name: code for name, code in codes.items() if code is not None}

    def empty_logs(self) -> None:
        """Begin the logs anew; whoever writes them appends."""
        for log in self.logs.glob("*.log"):
            os.truncate(log, 0)

    def read_log(self, name: str) -> str:
        return self._get_log_path(name).read_text(errors="replace")

    def find_bugs(self) -> list[str]:
        """Log lines that tell of an error which nobody expected."""
        lines = [line for log in self.logs.glob("*.log") for line in log.read_text().splitlines()]
        return [line[:2000] for line in lines if _BUG.search(line)]

    def _get_log_path(self, name: str) -> Path:
        return self.logs / f"{name}.log"


PATIENCE = 2
"""By how much a test waits longer than a machine of its own would need."""


def wait_until(holds: Callable[[], bool], seconds: float = 45, what: str = "it") -> None:
    """Wait for something to become true. A server that is away is no answer yet.

    A question that costs much is asked less often, so that most of the processor stays with the
    service that it is about.
    """
    seconds *= PATIENCE
    end = time.monotonic() + seconds
    while (asked := time.monotonic()) < end:
        try:
            if holds():
                return
        except ServerUnavailable:
            pass
        time.sleep(min(max(0.1, 3 * (time.monotonic() - asked)), 1))
    raise AssertionError(f"{what} did not happen within {seconds} s")


def is_exact(database: Database, tenant: Tenant, connection_id: int = 1) -> bool:
    """Whether the mirror equals the tenant. Rows are only read where their numbers are right."""
    truth = tenant.truth()
    expected = {resource: found.count for resource, found in truth.items()}
    return live_counts(database, connection_id) == expected and (
        compute_mirror_truth(database, connection_id) == truth
    )


def count_objects(tenant: Tenant) -> int:
    return sum(truth.count for truth in tenant.truth().values())


def count_created(database: Database, connection_id: int = 1) -> tuple[int, int]:
    """Events that tell of an object for the first time, and the objects that they tell of."""
    statement = text(
        "select count(*), count(distinct (resource, object_id)) from events.change_events"
        " where connection_id = :id and change = 'created' and resource <> 'connection'"
    )
    with database.open_transaction() as db:
        events, objects = db.execute(statement, {"id": connection_id}).one()
    return events, objects


def make_every_change(tenant: Tenant) -> None:
    """A change of every kind, with one deletion each by round and by sweep."""
    users = [str(tenant.create_user(displayName=f"Ada {number}")) for number in range(3)]
    tenant.update_user(users[0], displayName="Grace")
    tenant.delete_user(find_first_live(tenant, "users"))
    tenant.delete_site(find_first_live(tenant, "sites"))


def find_first_live(tenant: Tenant, resource: str) -> str:
    """Graph's id of the oldest object that is live."""
    with tenant.lock:
        shelf = tenant.store(resource)
        return str(shelf.props_at(next(iter(shelf.iterate_live())))["id"])


SHORT_CLAIM_SECONDS = 5.0
"""Seconds that a claim lasts in these tests."""

_SHORTEN = text("""
    update sync.connections set due_at = clock_timestamp()
     where due_at between clock_timestamp() + make_interval(secs => :long / 4)
                      and clock_timestamp() + make_interval(secs => :long - :short)
""")


def wait_until_exact(
    database: Database,
    tenant: Tenant,
    connection_id: int = 1,
    *,
    seconds: float = 60,
    what: str = "the mirror of it all",
) -> None:
    """Wait until the mirror is exact.

    A message that is lost, or whose slice finds no Postgres, is sent again when its claim has
    lapsed; nobody waits the two minutes here.
    """

    def holds() -> bool:
        resend_lost(database)
        return is_exact(database, tenant, connection_id)

    wait_until(holds, seconds, what)


def resend_lost(database: Database) -> None:
    """Have claims that nobody took up lapse within seconds."""
    with database.open_transaction() as db:
        db.execute(_SHORTEN, {"long": CLAIM_GRACE_SECONDS, "short": SHORT_CLAIM_SECONDS})


def assert_survived(
    service: Service,
    database: Database,
    tenant: Tenant,
    *,
    created: int | None = None,
    connection_id: int = 1,
) -> None:
    """Exact; events gap-free from 1 and none doubled; nobody died, and nothing unexpected came up.

    ``created`` says how many objects were created, where nothing was deleted meanwhile.
    """
    assert compute_mirror_truth(database, connection_id) == tenant.truth()
    found = verify_connection(database, connection_id)
    assert found.problems == []
    assert (found.first_seq, found.last_seq) == (1, found.events)
    events, objects = count_created(database, connection_id)
    assert events == objects
    assert created in (None, events)
    assert service.find_ended() == {}
    assert service.find_bugs() == []


MakeService = Callable[..., Service]
