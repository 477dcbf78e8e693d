"""The command ``status``: what needs attention, why, what to do, and what happens next."""

from collections.abc import Callable, Sequence
from typing import Any

import click

from models.queues import ALL_QUEUES
from worker.conditions.condition import Code
from worker.core.settings import Settings
from worker.delivery.health import SinkHealth, load_sink_health
from worker.ops.cli.exit_codes import EXIT_PARTIAL
from worker.ops.cli.filter_options import Option, build_filter_options
from worker.ops.cli.output import json_option, open_checked_database, print_json, print_line
from worker.ops.cli.screen_lines import print_lines
from worker.ops.cli.status_text import (
    build_connection_lines,
    build_service_lines,
    explain_no_connection,
    print_connections,
    print_overview,
    print_sinks,
)
from worker.ops.cli.streams_table import print_streams
from worker.overview.fleet import Fleet, load_fleet
from worker.overview.listing import ConnectionFilter, ConnectionPage, Sort, list_connections
from worker.overview.rows import (
    build_connection_row,
    build_totals,
    build_worker_row,
    list_condition_rows,
)
from worker.store.engine import Database
from worker.store.service.workers import Worker, list_unserved_queues, list_workers
from worker.store.state.connections import find_connection
from worker.store.state.overview import load_streams_overview

DEFAULT_LIMIT = 20
"""Most connections that are described, unless more are asked for."""
DEFAULT_INTERVAL = 2.0
"""Seconds between two looks of --watch."""
_SINK_HEADER_LINES = 3
"""Lines of the table of sinks besides its rows."""


def filter_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that choose connections."""
    options: tuple[Option, ...] = (
        *build_filter_options("Only those"),
        click.option("--attention", is_flag=True, help="Only those that need attention."),
    )
    for option in options:
        command = option(command)
    return command


@click.command()
@click.argument("connection", required=False)
@filter_options
@click.option("--all", "show_all", is_flag=True, help="Show every connection, as a table.")
@click.option(
    "--limit",
    type=click.IntRange(1, 1000),
    help=f"Most connections to show; {DEFAULT_LIMIT} unless --all or --json is given.",
)
@click.option("--check", is_flag=True, help="Exit with 3 if anything needs attention.")
@click.option("--watch", is_flag=True, help="Fill the screen and look again and again; q ends it.")
@click.option(
    "--interval",
    type=click.FloatRange(0.5, 3600),
    help=f"Seconds between two looks of --watch.  [default: {DEFAULT_INTERVAL:g}]",
)
@json_option
def status(  # noqa: PLR0917 - one argument an option
    connection: str | None,
    conditions: tuple[str, ...],
    statuses: tuple[str, ...],
    search: str,
    limit: int | None,
    attention: bool,  # noqa: FBT001
    show_all: bool,  # noqa: FBT001
    check: bool,  # noqa: FBT001
    watch: bool,  # noqa: FBT001
    interval: float | None,
    as_json: bool,  # noqa: FBT001
) -> None:
    """Show what needs attention, why, what to do about it, and what happens next.

    For CONNECTION, show its conditions, what it does or waits for now, and its streams.
    """
    wanted = ConnectionFilter(
        conditions=frozenset(map(Code, conditions)),
        statuses=frozenset(statuses),
        text=search,
        attention=attention
        or not (show_all or as_json or conditions or statuses or search or connection),
    )
    if watch:
        if show_all or as_json or check or limit:
            raise click.UsageError("--watch goes with none of --all, --json, --check and --limit")
        _watch(connection, wanted, interval or DEFAULT_INTERVAL)
        return
    if interval is not None:
        raise click.UsageError("--interval goes with --watch")
    with open_checked_database() as (settings, database):
        number = _find_id(database, connection)
        fleet = load_fleet(database, settings, ids=None if number is None else [number])
        streams, workers, sinks = _load_details(database, settings, number)
    page = _list_page(fleet, wanted, limit, everything=show_all or as_json)
    if as_json:
        _print_json(fleet, page, streams, workers, sinks)
    elif number is None:
        _print_fleet(fleet, page, workers, sinks, as_table=show_all)
        narrows = show_all or conditions or statuses or search
        if not page.rows and (narrows or not fleet.connections):
            print_line()
            print_line(explain_no_connection(fleet))
    else:
        print_lines(build_service_lines(fleet, workers))
        print_lines(build_connection_lines(fleet.by_id[number], fleet.now))
        print_line()
        print_streams(streams or [])
    if check and fleet.needs_attention:
        click.get_current_context().exit(EXIT_PARTIAL)


def _watch(connection: str | None, wanted: ConnectionFilter, interval: float) -> None:
    from worker.ops.cli.watch import require_terminal, watch_fleet

    require_terminal()
    with open_checked_database() as (settings, database):
        number = _find_id(database, connection)
        watch_fleet(database, settings, wanted, connection_id=number, interval=interval)


def _print_fleet(
    fleet: Fleet,
    page: ConnectionPage,
    workers: Sequence[Worker],
    sinks: SinkHealth,
    *,
    as_table: bool,
) -> None:
    if as_table:
        print_lines(build_service_lines(fleet, workers))
        if page.rows:
            print_line()
            print_connections(page.rows, fleet.now)
    else:
        below = len(sinks.sinks) + _SINK_HEADER_LINES if sinks.sinks else 0
        print_overview(fleet, workers, page, reserved=below + 1)
    if sinks.sinks:
        print_line()
        print_sinks(sinks)


def _find_id(database: Database, connection: str | None) -> int | None:
    if connection is None:
        return None
    with database.open_transaction() as db:
        return find_connection(db, connection).id


def _load_details(
    database: Database, settings: Settings, number: int | None
) -> tuple[list[dict[str, Any]] | None, list[Worker], SinkHealth]:
    """Return the streams of the chosen connection, the workers, and the health of sinks."""
    with database.open_transaction() as db:
        streams = None if number is None else load_streams_overview(db, number)
        return streams, list_workers(db), load_sink_health(db, settings)


def _list_page(
    fleet: Fleet, wanted: ConnectionFilter, limit: int | None, *, everything: bool
) -> ConnectionPage:
    """Return the connections to show: the most severe first, unless all are shown."""
    most = limit or (None if everything else DEFAULT_LIMIT)
    return list_connections(
        fleet, wanted, sort=Sort.ID if everything else Sort.SEVERITY, limit=most
    )


def _print_json(
    fleet: Fleet,
    page: ConnectionPage,
    streams: Sequence[dict[str, Any]] | None,
    workers: Sequence[Worker],
    sinks: SinkHealth,
) -> None:
    service, shared = fleet.service, fleet.service.shared
    outage, halt, missing = shared.outage, service.halt, service.missing
    shown: dict[str, object] = {
        "totals": build_totals(fleet),
        "needs_attention": fleet.needs_attention,
        "conditions": list_condition_rows(fleet.conditions),
        "dispatcher_alive": service.is_dispatcher_alive,
        "tick_age_seconds": service.tick_age,
        "halted": halt.reason if halt else outage.reason if outage else None,
        "nango_outage": outage and {"seconds": outage.seconds, "reason": outage.reason},
        "no_room": shared.shortage,
        "redis": shared.redis_problem,
        "missing_connections": missing
        and {
            "reason": missing.reason,
            "ids": sorted(missing.ids),
            "seconds": (service.now - missing.since).total_seconds(),
        },
        "workers": [build_worker_row(one) for one in workers],
        "unserved_queues": list_unserved_queues(workers, ALL_QUEUES),
        "clocks_off": [{"host": one.host, "seconds": one.seconds} for one in service.clocks],
        "nango_budget": shared.budget and shared.budget.to_json(),
        "sinks": sinks.sinks,
        "connections": [build_connection_row(one, fleet.now) for one in page.rows],
    }
    print_json(shown if streams is None else {**shown, "streams": streams})
