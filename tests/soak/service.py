"""Runs the whole service as processes: servers, beat, workers, relays.

Whatever dies is started again within a second or so. A death that nobody announced is kept.
"""

import os
import re
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from models.queues import MAINTENANCE, SLICE_QUEUES
from models.resources import RESOURCES
from sandbox.servers import Backoff, Child, Home, Supervisor, start_postgres, start_valkey
from tests.soak.processes import list_children, read_megabytes
from worker.core.settings import SETTINGS
from worker.ops.local.service import RELAY_COMMAND, STOP_SIGNALS
from worker.ops.schema.migrate import migrate
from worker.store.engine import Database

CELERY: Final = [sys.executable, "-m", "celery", "--app", "worker.app"]
ROOT: Final = Path(__file__).resolve().parents[2]
LEASE_SECONDS: Final = 15

CLOCKS: Final = {
    "TENANT_MIRROR_TICK_SECONDS": "1",
    "TENANT_MIRROR_DELTA_SECONDS": "10",
    "TENANT_MIRROR_ROLES_SECONDS": "20",
    "TENANT_MIRROR_ROLES_FILTERED_SECONDS": "30",
    "TENANT_MIRROR_SITES_SECONDS": "25",
    "TENANT_MIRROR_APP_ROLES_SECONDS": "25",
    "TENANT_MIRROR_OTHER_APP_ROLES_SECONDS": "40",
    "TENANT_MIRROR_DISCOVERY_SECONDS": "10",
    "TENANT_MIRROR_FULL_WALK_SECONDS": "300",
    "TENANT_MIRROR_FIRST_FULL_WALK_SECONDS": "120",
    "TENANT_MIRROR_CURSOR_DAYS": "0.002",
    "TENANT_MIRROR_SLICE_SECONDS": "20",
    "TENANT_MIRROR_LEASE_SECONDS": str(LEASE_SECONDS),
    "TENANT_MIRROR_CALL_SECONDS": "5",
    "TENANT_MIRROR_RETRY_SECONDS": "2",
    "TENANT_MIRROR_GUARD_ROWS": "15",
}
"""Everything that takes hours in production takes seconds or minutes here."""

WORKERS: Final = ("worker-1", "worker-2")
RELAYS: Final = ("relay-1", "relay-2")
PROCESSES: Final = (*WORKERS, "maintenance", "beat", *RELAYS)
CONSUMER: Final = "consumer"
"""Somebody else's."""
SERVERS: Final = ("postgres", "valkey")

# A server that is killed has to keep what it has acknowledged; the machine itself is never cut off.
POSTGRES_SETTINGS: Final = {"fsync": "off", "shared_buffers": "64MB", "max_wal_size": "256MB"}

_DEATH = re.compile(r"(\S+) (exited|was killed|could not|was not ready|cannot become)")


class SoakService:
    """The running processes, by name."""

    def __init__(self, home: Home) -> None:
        self.home = home
        self.unexpected_deaths: list[str] = []
        """Deaths that nobody had announced, with the time of day."""
        self.killed_pids: set[int] = set()
        """Pool processes that were killed on purpose."""
        self.peaks: dict[str, float] = {}
        """The most memory that a kind of process ever had, in MB."""
        self.supervisor = Supervisor(
            self._on_event, backoff=Backoff(initial=0.5, maximum=3, reset_after=10)
        )
        self._announced: Counter[str] = Counter()
        self._guard = threading.Lock()

    def start_servers(self) -> None:
        """Postgres and Valkey, with an empty, migrated database."""
        postgres = start_postgres(self.home, self.supervisor, settings=POSTGRES_SETTINGS)
        valkey = start_valkey(self.home, self.supervisor)
        self.database_url, self.redis_url = postgres.url, valkey.url
        self.database = Database(self.database_url)
        migrate(self.database)

    def start_processes(self, nango_host: str, nango_key: str) -> None:
        """Beat, the workers and two relays, as the Procfile has them."""
        environment = {
            **self.plain_environment,
            **CLOCKS,
            SETTINGS["resources_on"].name: ",".join(
                one.name for one in RESOURCES.values() if one.is_optional
            ),
            "DATABASE_URL": self.database_url,
            "REDIS_URL": self.redis_url,
            "NANGO_HOST": nango_host,
            "NANGO_SECRET_KEY": nango_key,
        }
        for name in PROCESSES:
            child = Child(
                name=name,
                argv=RELAY_COMMAND if name in RELAYS else [*CELERY, *_build_arguments(name)],
                env=environment,
                cwd=ROOT,
                stop_signals=STOP_SIGNALS,
                log=self.home.get_log_path(name),
            )
            self.supervisor.start(child)

    @property
    def plain_environment(self) -> dict[str, str]:
        """What every process may know."""
        return {k: v for k, v in os.environ.items() if k in ("PATH", "HOME", "LANG")}

    def expect_death(self, name: str) -> int | None:
        """Its process id, if it is up; the death that follows is no surprise."""
        with self._guard:
            pid = self.supervisor.get_pid(name)
            if pid is not None:
                self._announced[name] += 1
            return pid

    def is_up(self) -> bool:
        """Whether everything runs, and the workers have their pools."""
        ready = all(self.supervisor.is_ready(name) for name in (*SERVERS, *PROCESSES))
        return ready and all(self.list_pool(name) for name in (*WORKERS, "maintenance"))

    def list_pool(self, name: str) -> list[int]:
        """The processes of a worker that run tasks."""
        pid = self.supervisor.get_pid(name)
        return list_children(pid) if pid is not None else []

    def measure_memory(self) -> None:
        """Note how much memory everything of ours has."""
        for name in PROCESSES:
            pid = self.supervisor.get_pid(name)
            if pid is None:
                continue
            sizes = [read_megabytes(child) for child in list_children(pid)]
            self._record_peak(f"{name} main", read_megabytes(pid))
            if sizes:
                self._record_peak(f"{name} pool", max(sizes))

    def _record_peak(self, kind: str, size: float) -> None:
        self.peaks[kind] = max(self.peaks.get(kind, 0.0), size)

    def _on_event(self, line: str) -> None:
        """What the supervisor says; called in its thread."""
        death = _DEATH.match(line)
        if death is None:
            return
        name = death[1]
        with self._guard:
            if self._announced[name] > 0:
                self._announced[name] -= 1
            else:
                self.unexpected_deaths.append(f"{time.strftime('%H:%M:%S')} {line}")


def _build_arguments(name: str) -> list[str]:
    quiet = ["--loglevel", "WARNING"]
    if name == "beat":
        return ["--quiet", "beat", "--scheduler", "celery.beat:Scheduler", "--pidfile", "", *quiet]
    queues, number = (MAINTENANCE, 1) if name == "maintenance" else (",".join(SLICE_QUEUES), 2)
    return [
        "--quiet",
        "worker",
        "--hostname",
        f"{name}@soak",
        "--queues",
        queues,
        "--concurrency",
        str(number),
        "--without-gossip",
        "--without-mingle",
        *quiet,
    ]


@contextmanager
def run_soak_service(folder: Path) -> Iterator[SoakService]:
    """The servers for the length of the block; the processes have to be started."""
    home = Home(folder)
    with home.hold_lock():
        started = SoakService(home)
        with started.supervisor:
            started.start_servers()
            try:
                yield started
            finally:
                started.database.close()
