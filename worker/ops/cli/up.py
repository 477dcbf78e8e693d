"""The command ``up``: runs the whole service on this machine, for ``make run``."""

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from types import FrameType

import click

from worker.core.errors import MirrorError
from worker.core.log import configure_logging
from worker.core.process.disk import warn_if_disk_full
from worker.core.settings import load_settings
from worker.core.time_text import render_count
from worker.nango.kv_store import check_redis
from worker.ops.cli.output import print_table
from worker.ops.local.service import (
    LocalService,
    add_default_sink,
    run_local_service,
    start_processes,
)
from worker.ops.local.sign_in_link import make_sign_in_link
from worker.ops.local.watch import MAX_SHOWN_CUSTOMERS, Watcher
from worker.ops.schema.migrate import migrate
from worker.overview.fleet import load_fleet
from worker.store.engine import load_server_time
from worker.store.state.connections import request_all_resyncs
from worker.sync.connections.discover import discover
from worker.sync.runtime import Runtime
from worker.wiring import close_runtime, open_runtime

POLL_SECONDS = 1.0
POLL_MANY_SECONDS = 5.0
"""Seconds between two progress lines of many customers."""
RETRY_SECONDS = 5.0


@click.command()
@click.option("--once", is_flag=True, help="Stop after the summary.")
def up(once: bool) -> None:  # noqa: FBT001
    """Run the whole service on this machine, and show what it does.

    Starts embedded Postgres and Valkey servers, beat, workers, a relay, the page of operators and
    the HTTP API. Mirrors the connections of NANGO_SECRET_KEY, or three simulated customers if it is
    not set. Change events go to a Redis stream, unless there are other sinks. If DATABASE_URL or
    REDIS_URL is set, that server is used, and no sink is added; values from the env file of an
    earlier start are ignored.
    Ctrl-C stops everything cleanly; the next start continues with the same data.
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
    with run_local_service(load_settings(), echo_line) as service:
        if not stop.is_set():
            _run_service(service, stop, started, once=once)
    echo_line("stopped; the data is kept for the next start")


def echo_line(line: str) -> None:
    click.echo(f"  {line}")


def _run_service(place: LocalService, stop: threading.Event, started: float, *, once: bool) -> None:
    os.environ.clear()
    os.environ.update(place.environment)
    runtime = open_runtime(load_settings())
    try:
        with _add_setting_hint("DATABASE_URL", place):
            migrate(runtime.database)
        with _add_setting_hint("REDIS_URL", place):
            check_redis(place.environment["REDIS_URL"])
        with runtime.database.open_transaction() as db:
            since = load_server_time(db)
        with _add_setting_hint("NANGO_SECRET_KEY", place):
            found = discover(runtime.database, runtime.nango, runtime.settings)
        listed = render_count(found.listed, "connection")
        echo_line(f"{listed} in Nango, {len(found.enrolled)} of them new")
        if place.is_simulated:
            _request_all(runtime)
        stream = add_default_sink(runtime.database) if place.is_embedded else None
        if stream:
            echo_line(f"change events go to the Redis stream {stream}")
        look = partial(
            load_fleet, runtime.database, runtime.settings, limiter=runtime.nango.limiter
        )
        watcher = Watcher(runtime.database, echo_line, since, stop.is_set, look)
        watcher.record_due()
        start_processes(place)
        echo_line("beat, workers, relay and web are up")
        link = make_sign_in_link(runtime.database, runtime.settings, place.web_url)
        echo_line(f"the page and the HTTP API are at {place.web_url}; this link signs in once:")
        echo_line(link)
        if found.listed:
            _print_summary(watcher, place, started)
        if not once:
            _follow_changes(watcher, place, stop)
    finally:
        close_runtime(runtime)


@contextmanager
def _add_setting_hint(name: str, place: LocalService) -> Iterator[None]:
    """Add to a server's error which setting its address comes from, if a person set it."""
    try:
        yield
    except MirrorError as error:
        if name in place.given_variables:
            error.message += (
                f"\n{name} is set in this shell; unset it to use {_EMBEDDED_SERVERS[name]}"
            )
        raise


_EMBEDDED_SERVERS = {
    "DATABASE_URL": "a Postgres that is started here",
    "REDIS_URL": "a Valkey that is started here",
    "NANGO_SECRET_KEY": "simulated customers",
}


def _request_all(runtime: Runtime) -> None:
    """Make all syncs of the simulated customers due now, as a person watches."""
    with runtime.database.open_transaction() as db:
        request_all_resyncs(db)


def _print_summary(watcher: Watcher, place: LocalService, started: float) -> None:
    states = watcher.wait_until_mirrored()
    if not states:
        return
    summary = watcher.build_summary(states)
    click.echo()
    seconds = time.monotonic() - started
    hint = _SANDBOX_HINT if place.is_simulated else ""
    print_table(f"Mirrored, {seconds:.0f} s after the start", summary.columns, summary.rows)
    click.echo(f"""
Look around, in another terminal:
  . {place.env_file}
  {place.psql} "$DATABASE_URL" -c "select organization, code, count(*)
      from analytics.findings where severity = 'high' group by 1, 2 order by 1, 2"
  .venv/bin/tenant-mirror status
  .venv/bin/tenant-mirror connections show 1
  .venv/bin/tenant-mirror verify 1
  .venv/bin/tenant-mirror events tail --follow
  .venv/bin/tenant-mirror sinks list
  curl -H "Authorization: Bearer $TENANT_MIRROR_WEB_TOKEN" {place.web_url}/health/ready{hint}
""")


_SANDBOX_HINT = """
  .venv/bin/tenant-mirror sandbox --help       how to make customers refuse, revoke and delete"""


def _follow_changes(watcher: Watcher, place: LocalService, stop: threading.Event) -> None:
    """Print changes until stopped, also through outages of a server."""
    watcher.start_following()
    echo_line("following changes; Ctrl-C stops everything")
    met: str | None = None
    while not stop.wait(
        POLL_SECONDS if len(watcher.positions) <= MAX_SHOWN_CUSTOMERS else POLL_MANY_SECONDS
    ):
        problem = _print_news(watcher, met, names=place.is_simulated)
        if problem is not None:
            if problem != met:
                warn_if_disk_full(place.home.path, echo_line)
            stop.wait(RETRY_SECONDS)
        met = problem


def _print_news(watcher: Watcher, met: str | None, *, names: bool) -> str | None:
    """Print alarms and changes; return why Postgres cannot be read, if so.

    The reason ``met`` was printed before.
    """
    try:
        problem = watcher.print_alarms()
        if problem is None:
            watcher.print_changes(names=names)
    except MirrorError as error:
        problem = str(error)
        if problem != met:
            echo_line(problem)
    return problem
