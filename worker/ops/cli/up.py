"""The whole service on this machine, to look at; what ``make run`` calls."""

import os
import signal
import threading
import time
from datetime import datetime
from types import FrameType

import click
from sqlalchemy import func, select, update

from models.connection import ConnectionStatus, connections
from worker.core.errors import Trouble
from worker.core.log import configure
from worker.core.settings import load_settings
from worker.ops.cli.output import print_table
from worker.ops.local import Place, add_stream, running, start_service
from worker.ops.migrate import migrate
from worker.ops.watch import Watcher
from worker.sync.discover import discover
from worker.sync.run import Kit
from worker.wiring import close_kit, open_kit


@click.command()
@click.option("--once", is_flag=True, help="Stop after the summary.")
def up(once: bool) -> None:  # noqa: FBT001
    """Run everything on this machine and show it.

    Starts embedded Postgres and Valkey servers, beat, workers and a relay, and mirrors the
    connections of NANGO_SECRET_KEY, or three simulated customers where none is set. Change events
    go to a Redis stream, unless there are other sinks. With DATABASE_URL or REDIS_URL set, those
    servers are used, and no sink is added. Ctrl-C stops everything cleanly; a second start goes on
    with the same data.
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
    os.environ.update(place.environment)
    for name in ("DATABASE_URL", "REDIS_URL", "NANGO_SECRET_KEY"):
        os.environ.pop(f"{name}_FILE", None)
    kit = open_kit(load_settings())
    try:
        migrate(kit.database)
        with kit.database.begin() as connection:
            since: datetime = connection.execute(select(func.clock_timestamp())).scalar_one()
        found = discover(kit.database, kit.nango, kit.settings)
        say(f"{found.listed} connections in Nango, {len(found.enrolled)} of them new")
        if place.simulated:
            _make_due(kit)
        stream = add_stream(kit.database) if place.embedded else None
        if stream:
            say(f"change events go to the Redis stream {stream}")
        start_service(place)
        say("beat, workers and relay are up")
        watcher = Watcher(kit.database, say, since, stop.is_set)
        if found.listed:
            _show(watcher, place, started)
        if not once:
            _follow(watcher, place, stop)
    finally:
        close_kit(kit)


def _make_due(kit: Kit) -> None:
    """The simulated customers are new at each start: look at them now, not when it was planned."""
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
    columns, rows = watcher.summary(states)
    click.echo()
    seconds = time.monotonic() - started
    print_table(f"Mirrored, {seconds:.0f} s after the start", columns, rows)
    click.echo(f"""
Look around, in another terminal:
  . {place.env_file}
  {place.psql} "$DATABASE_URL" -c 'select organization, group_name, count(*)
      from analytics.group_members group by 1, 2 order by 3 desc limit 5'
  .venv/bin/tenant-mirror status
  .venv/bin/tenant-mirror connections show 1
  .venv/bin/tenant-mirror verify 1
  .venv/bin/tenant-mirror events tail --follow
  .venv/bin/tenant-mirror sinks list
""")


def _follow(watcher: Watcher, place: Place, stop: threading.Event) -> None:
    """Say what changes until somebody stops us; a server that is away is no reason to end."""
    watcher.start_following()
    say("following the changes; Ctrl-C stops everything")
    while not stop.wait(1.0):
        try:
            watcher.changes(names=place.simulated)
        except Trouble as trouble:
            say(str(trouble))
            stop.wait(5.0)
