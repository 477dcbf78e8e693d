"""The whole service on this machine, to look at; what ``make run`` calls."""

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from functools import partial
from types import FrameType

import click
from sqlalchemy import func, select, update

from models.connection import ConnectionStatus, connections
from worker.core.errors import MirrorError
from worker.core.log import configure_logging
from worker.core.process.disk import warn_if_disk_full
from worker.core.settings import load_settings
from worker.nango.kv_store import check_redis
from worker.ops.budget_report import load_outage
from worker.ops.cli.output import print_table
from worker.ops.local.service import (
    LocalService,
    add_default_sink,
    run_local_service,
    start_processes,
)
from worker.ops.local.watch import MAX_SHOWN_CUSTOMERS, Watcher
from worker.ops.schema.migrate import migrate
from worker.sync.connections.discover import discover
from worker.sync.runtime import Runtime
from worker.wiring import close_runtime, open_runtime

POLL_SECONDS = 1.0
POLL_MANY_SECONDS = 5.0
"""Between two looks at many customers: each line is about all of them."""
RETRY_SECONDS = 5.0


@click.command()
@click.option("--once", is_flag=True, help="Stop after the summary.")
def up(once: bool) -> None:  # noqa: FBT001
    """Run everything on this machine and show it.

    Starts embedded Postgres and Valkey servers, beat, workers and a relay, and mirrors the
    connections of NANGO_SECRET_KEY, or three simulated customers where none is set. Change events
    go to a Redis stream, unless there are other sinks. With DATABASE_URL or REDIS_URL set, those
    servers are used, and no sink is added; values that come from the env file of an earlier start
    are passed over. Ctrl-C stops everything cleanly; a second start goes on with the same data.
    """
    stop = threading.Event()

    def finish(_signal: int, _frame: FrameType | None) -> None:
        if stop.is_set():
            return
        stop.set()
        echo_line("stopping ...")

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, finish)
    configure_logging("WARNING", "console")
    started = time.monotonic()
    with run_local_service(load_settings(), echo_line) as place:
        if not stop.is_set():
            _run_service(place, stop, started, once=once)
    echo_line("stopped; the data are kept for the next start")


def echo_line(line: str) -> None:
    click.echo(f"  {line}")


def _run_service(place: LocalService, stop: threading.Event, started: float, *, once: bool) -> None:
    os.environ.clear()
    os.environ.update(place.environment)
    kit = open_runtime(load_settings())
    try:
        with _add_setting_hint("DATABASE_URL", place):
            migrate(kit.database)
        with _add_setting_hint("REDIS_URL", place):
            check_redis(place.environment["REDIS_URL"])
        with kit.database.open_transaction() as db:
            since: datetime = db.execute(select(func.clock_timestamp())).scalar_one()
        with _add_setting_hint("NANGO_SECRET_KEY", place):
            found = discover(kit.database, kit.nango, kit.settings)
        echo_line(f"{found.listed} connections in Nango, {len(found.enrolled)} of them new")
        if place.is_simulated:
            _request_all(kit)
        stream = add_default_sink(kit.database) if place.is_embedded else None
        if stream:
            echo_line(f"change events go to the Redis stream {stream}")
        outage = partial(load_outage, kit.nango.limiter)
        watcher = Watcher(kit.database, echo_line, since, stop.is_set, outage)
        watcher.record_due()
        start_processes(place)
        echo_line("beat, workers and relay are up")
        if found.listed:
            _print_summary(watcher, place, started)
        if not once:
            _follow_changes(watcher, place, stop)
    finally:
        close_runtime(kit)


@contextmanager
def _add_setting_hint(name: str, place: LocalService) -> Iterator[None]:
    """Say of a server that does not serve us whence its address comes, where a person gave it."""
    try:
        yield
    except MirrorError as trouble:
        if name in place.given_variables:
            trouble.message += (
                f"\n{name} is set in this shell; unset it to use {_EMBEDDED_SERVERS[name]}"
            )
        raise


_EMBEDDED_SERVERS = {
    "DATABASE_URL": "a Postgres that is started here",
    "REDIS_URL": "a Valkey that is started here",
    "NANGO_SECRET_KEY": "simulated customers",
}


def _request_all(runtime: Runtime) -> None:
    """Look at the simulated customers now, not when it was planned: somebody watches."""
    with runtime.database.open_transaction() as db:
        db.execute(
            update(connections)
            .where(connections.c.status.in_((ConnectionStatus.ACTIVE, ConnectionStatus.BROKEN)))
            .values(due_at=func.clock_timestamp(), requested_at=func.clock_timestamp())
        )


def _print_summary(watcher: Watcher, place: LocalService, started: float) -> None:
    states = watcher.wait_until_mirrored()
    if not states:
        return
    summary = watcher.build_summary(states)
    click.echo()
    seconds = time.monotonic() - started
    print_table(f"Mirrored, {seconds:.0f} s after the start", summary.columns, summary.rows)
    click.echo(f"""
Look around, in another terminal:
  . {place.env_file}
  {place.psql} "$DATABASE_URL" -c 'select organization, group_name, count(*)
      from analytics.group_members group by 1, 2 order by 3 desc limit 5'
  .venv/bin/tenant-mirror status
  .venv/bin/tenant-mirror connections show 1
  .venv/bin/tenant-mirror verify 1
  .venv/bin/tenant-mirror events tail --follow
  .venv/bin/tenant-mirror sinks list{_SANDBOX_HINT if place.is_simulated else ""}
""")


_SANDBOX_HINT = """
  .venv/bin/tenant-mirror sandbox --help       how to make customers refuse, revoke and delete"""


def _follow_changes(watcher: Watcher, place: LocalService, stop: threading.Event) -> None:
    """Say what changes until somebody stops us; a server that is away is no reason to end."""
    watcher.start_following()
    echo_line("following the changes; Ctrl-C stops everything")
    met: str | None = None
    while not stop.wait(
        POLL_SECONDS if len(watcher.positions) <= MAX_SHOWN_CUSTOMERS else POLL_MANY_SECONDS
    ):
        try:
            watcher.print_alarms()
            watcher.print_changes(names=place.is_simulated)
        except MirrorError as trouble:
            if str(trouble) != met:
                echo_line(met := str(trouble))
                warn_if_disk_full(place.home.path, echo_line)
            stop.wait(RETRY_SECONDS)
        else:
            if met is not None:
                echo_line("Postgres answers again")
            met = None
