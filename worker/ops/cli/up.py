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
from worker.core.disk import tell_full_disk
from worker.core.errors import Trouble
from worker.core.log import configure
from worker.core.settings import load_settings
from worker.nango.ledger import check_redis
from worker.ops.budgets import outage_of
from worker.ops.cli.output import print_table
from worker.ops.local import Place, add_stream, running, start_service
from worker.ops.migrate import migrate
from worker.ops.watch import FEW, Watcher
from worker.sync.discover import discover
from worker.sync.run import Kit
from worker.wiring import close_kit, open_kit

FOLLOW_SECONDS = 1.0
MANY_SECONDS = 5.0
"""Between two looks at many customers: each line is about all of them."""
AWAY_SECONDS = 5.0


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
        say("stopping ...")

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, finish)
    configure("WARNING", "console")
    started = time.monotonic()
    with running(load_settings(), say) as place:
        if not stop.is_set():
            _serve(place, stop, started, once=once)
    say("stopped; the data are kept for the next start")


def say(line: str) -> None:
    click.echo(f"  {line}")


def _serve(place: Place, stop: threading.Event, started: float, *, once: bool) -> None:
    os.environ.clear()
    os.environ.update(place.environment)
    kit = open_kit(load_settings())
    try:
        with _hint("DATABASE_URL", place):
            migrate(kit.database)
        with _hint("REDIS_URL", place):
            check_redis(place.environment["REDIS_URL"])
        with kit.database.begin() as connection:
            since: datetime = connection.execute(select(func.clock_timestamp())).scalar_one()
        with _hint("NANGO_SECRET_KEY", place):
            found = discover(kit.database, kit.nango, kit.settings)
        say(f"{found.listed} connections in Nango, {len(found.enrolled)} of them new")
        if place.simulated:
            _make_due(kit)
        stream = add_stream(kit.database) if place.embedded else None
        if stream:
            say(f"change events go to the Redis stream {stream}")
        outage = partial(outage_of, kit.nango.gate)
        watcher = Watcher(kit.database, say, since, stop.is_set, outage)
        watcher.note_due()
        start_service(place)
        say("beat, workers and relay are up")
        if found.listed:
            _show(watcher, place, started)
        if not once:
            _follow(watcher, place, stop)
    finally:
        close_kit(kit)


@contextmanager
def _hint(name: str, place: Place) -> Iterator[None]:
    """Say of a server that does not serve us whence its address comes, where a person gave it."""
    try:
        yield
    except Trouble as trouble:
        if name in place.given:
            trouble.message += f"\n{name} is set in this shell; unset it to use {_INSTEAD[name]}"
        raise


_INSTEAD = {
    "DATABASE_URL": "a Postgres that is started here",
    "REDIS_URL": "a Valkey that is started here",
    "NANGO_SECRET_KEY": "simulated customers",
}


def _make_due(kit: Kit) -> None:
    """Look at the simulated customers now, not when it was planned: somebody watches."""
    with kit.database.begin() as connection:
        connection.execute(
            update(connections)
            .where(connections.c.status.in_((ConnectionStatus.ACTIVE, ConnectionStatus.BROKEN)))
            .values(due_at=func.clock_timestamp(), requested_at=func.clock_timestamp())
        )


def _show(watcher: Watcher, place: Place, started: float) -> None:
    states = watcher.until_mirrored()
    if not states:
        return
    summary = watcher.summary(states)
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
  .venv/bin/tenant-mirror sinks list{_SEE_TROUBLE if place.simulated else ""}
""")


_SEE_TROUBLE = """
  .venv/bin/tenant-mirror sandbox --help       how to make customers refuse, revoke and delete"""


def _follow(watcher: Watcher, place: Place, stop: threading.Event) -> None:
    """Say what changes until somebody stops us; a server that is away is no reason to end."""
    watcher.start_following()
    say("following the changes; Ctrl-C stops everything")
    met: str | None = None
    while not stop.wait(FOLLOW_SECONDS if len(watcher.positions) <= FEW else MANY_SECONDS):
        try:
            watcher.tell_alarms()
            watcher.changes(names=place.simulated)
        except Trouble as trouble:
            if str(trouble) != met:
                say(met := str(trouble))
                tell_full_disk(place.home.path, say)
            stop.wait(AWAY_SECONDS)
        else:
            if met is not None:
                say("Postgres answers again")
            met = None
