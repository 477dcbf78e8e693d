"""Runs the service as in production: beat, workers and relay, as processes."""

import signal
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from benchmarks.processes import ROOT
from models.queues import WORKER_QUEUES
from sandbox.servers import Child, Supervisor

_CELERY: Final = (sys.executable, "-m", "celery", "--app", "worker.app", "--quiet")
_WORKER: Final = ("--without-gossip", "--without-mingle", "--loglevel", "WARNING")
_GRACE: Final = ((signal.SIGTERM, 60.0), (signal.SIGKILL, 5.0))


def build_relay_command() -> list[str]:
    """Return the command of the relay."""
    return [sys.executable, "-c", "from worker.ops.cli import main; main()", "relay"]


def _build_commands(concurrency: int) -> dict[str, list[str]]:
    def worker(name: str, queues: str, number: int) -> list[str]:
        served = ["--queues", queues, "--concurrency", str(number)]
        return [*_CELERY, "worker", "--hostname", f"{name}@bench", *served, *_WORKER]

    beat = [
        "beat",
        "--scheduler",
        "celery.beat:Scheduler",
        "--pidfile",
        "",
        "--loglevel",
        "WARNING",
    ]
    return {
        "worker": worker("worker", WORKER_QUEUES["worker"], concurrency),
        "backfill": worker("backfill", WORKER_QUEUES["backfill"], concurrency),
        "maintenance": worker("maintenance", WORKER_QUEUES["maintenance"], 1),
        "beat": [*_CELERY, *beat],
    }


@contextmanager
def run_service(
    environment: Mapping[str, str], logs: Path, *, concurrency: int = 2, relay: bool = False
) -> Iterator[Supervisor]:
    """Run beat and the workers (and the relay) during the block."""
    commands = _build_commands(concurrency)
    if relay:
        commands["relay"] = build_relay_command()
    with Supervisor() as supervisor:
        for name, command in commands.items():
            supervisor.start(
                Child(
                    name=name,
                    argv=command,
                    env=dict(environment),
                    cwd=ROOT,
                    log=logs / f"{name}.log",
                    stop_signals=_GRACE,
                )
            )
        yield supervisor
