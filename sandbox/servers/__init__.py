"""Embedded PostgreSQL and Valkey, without Docker, under a small supervisor of our own.

    with run_servers(Home.find(checkout)) as servers:
        print(servers.database_url, servers.redis_url)

`start_postgres` and `start_valkey` start one alone; `Supervisor` keeps any program running.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from sandbox.servers.child import Child
from sandbox.servers.errors import (
    BinariesMissing,
    DirectoryInUse,
    HomeUnusable,
    MajorVersionMismatch,
    PasswdEntryMissing,
    ServerError,
    StartupFailed,
)
from sandbox.servers.home_directory import Home
from sandbox.servers.postgres import Postgres, start_postgres
from sandbox.servers.supervisor import Backoff, OnEvent, Supervisor
from sandbox.servers.valkey import Valkey, start_valkey

__all__ = [
    "Backoff",
    "BinariesMissing",
    "Child",
    "DirectoryInUse",
    "Home",
    "HomeUnusable",
    "MajorVersionMismatch",
    "OnEvent",
    "PasswdEntryMissing",
    "Postgres",
    "ServerError",
    "Servers",
    "StartupFailed",
    "Supervisor",
    "Valkey",
    "run_servers",
    "start_postgres",
    "start_valkey",
]


@dataclass(frozen=True)
class Servers:
    """The addresses of the running servers; the supervisor may start more children."""

    database_url: str = field(repr=False)
    redis_url: str = field(repr=False)
    supervisor: Supervisor


@contextmanager
def run_servers(
    home: Home,
    *,
    postgres_settings: Mapping[str, str] | None = None,
    bin_dir: Path | None = None,
    on_event: OnEvent | None = None,
) -> Iterator[Servers]:
    """Lock the home, run both servers during the block, and stop them in order.

    Raises ServerError.
    """
    with home.hold_lock(), Supervisor(on_event) as supervisor:
        postgres = start_postgres(home, supervisor, settings=postgres_settings, bin_dir=bin_dir)
        valkey = start_valkey(home, supervisor)
        yield Servers(postgres.url, valkey.url, supervisor)
