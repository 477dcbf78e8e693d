"""The commands of the group ``connections``."""

from collections.abc import Mapping, Sequence
from typing import Any

import click

from models.audit import AuditAction
from worker.conditions.condition import Code
from worker.core.time_text import render_age, render_count
from worker.operations.actor import get_host_actor
from worker.operations.audit import AuditedAction, audit_work
from worker.operations.review import iterate_held
from worker.ops.cli.audit import print_actions
from worker.ops.cli.output import (
    APPROVE_MISSING_HINT,
    confirm,
    json_option,
    open_checked_database,
    open_checked_runtime,
    print_json,
    print_line,
    print_table,
    render_changes,
    render_time,
    yes_option,
)
from worker.ops.cli.screen_lines import print_lines
from worker.ops.cli.status import filter_options
from worker.ops.cli.status_text import build_connection_lines, explain_no_connection
from worker.ops.cli.streams_table import print_streams
from worker.overview.fleet import load_fleet
from worker.overview.listing import ConnectionFilter
from worker.overview.listing import list_connections as list_page
from worker.overview.rows import build_connection_row
from worker.store.service.audit import list_audit
from worker.store.service.facts import load_missing_connections
from worker.store.state.connections import Connection, find_connection, get_connections
from worker.store.state.overview import count_held, load_streams_overview
from worker.store.state.runs import list_latest_runs
from worker.store.sweep.held import HeldObject
from worker.sync.connections.discover import Discovery
from worker.sync.connections.discover import discover as read_list
from worker.sync.connections.missing import approve_missing as approve
from worker.sync.runtime import Runtime
from worker.wiring import close_runtime

SHOWN_ACTIONS = 5
"""Entries of the audit that ``connections show`` prints; ``audit`` has them all."""
SHOWN_HELD = 5
"""Held deletions of each resource that it prints; ``approve --list`` has them all."""


@click.group()
def connections() -> None:
    """List, show and discover connections."""


@connections.command("list")
@filter_options
@click.option("--limit", type=click.IntRange(1, 1000), help="Most connections to list.")
@json_option
def list_connections(  # noqa: PLR0917 - one argument an option
    conditions: tuple[str, ...],
    statuses: tuple[str, ...],
    search: str,
    attention: bool,  # noqa: FBT001
    limit: int | None,
    as_json: bool,  # noqa: FBT001
) -> None:
    """List all connections, or those that are asked for, including retired ones."""
    with open_checked_database() as (settings, database):
        fleet = load_fleet(database, settings)
    wanted = ConnectionFilter(
        frozenset(map(Code, conditions)), frozenset(statuses), search, None, attention
    )
    page = list_page(fleet, wanted, limit=limit)
    if as_json:
        print_json([build_connection_row(one, fleet.now) for one in page.rows])
        return
    if not page.rows:
        print_line(explain_no_connection(fleet))
        return
    print_table(
        "",
        ["id", "integration", "Nango connection", "organization", "status", "fresh", "why"],
        [
            [
                str(one.id),
                one.facts.integration,
                one.facts.nango_id,
                one.facts.name,
                one.facts.status,
                render_age(one.age_seconds),
                "; ".join(condition.sentence for condition in one.conditions)
                or one.facts.status_reason,
            ]
            for one in page.rows
        ],
        prose=("organization", "why"),
    )


@connections.command()
@click.argument("connection")
@json_option
def show(connection: str, as_json: bool) -> None:  # noqa: FBT001
    """Show one connection: conditions, streams, latest runs, and what operators did."""
    with open_checked_database() as (settings, database):
        with database.open_transaction() as db:
            known = find_connection(db, connection)
            streams = load_streams_overview(db, known.id)
            runs = [dict(run) for run in list_latest_runs(db, known.id)]
            held_counts = count_held(db, known.id)
            actions = list_audit(db, connection_id=known.id, limit=SHOWN_ACTIONS)
        held = [
            (found, number)
            for name, number in held_counts.items()
            for found in iterate_held(database, known.id, name, SHOWN_HELD)
        ]
        fleet = load_fleet(database, settings, ids=[known.id])
    one = fleet.by_id[known.id]
    if as_json:
        row = build_connection_row(one, fleet.now)
        shown = [vars(entry) for entry in actions]
        sample = [vars(found) | {"number": number} for found, number in held]
        print_json({**row, "streams": streams, "runs": runs, "held": sample, "actions": shown})
        return
    print_lines(build_connection_lines(one, fleet.now))
    print_line()
    print_streams(streams)
    _print_held(held, held_counts)
    print_line()
    _print_latest_runs(runs)
    if actions:
        print_line()
        print_actions("latest actions of operators", actions, {known.id: known})


def _print_held(held: Sequence[tuple[HeldObject, int]], counts: Mapping[str, int]) -> None:
    if not held:
        return
    print_line()
    print_table(
        f"held deletions, {len(held):,} of {sum(counts.values()):,}",
        ["resource", "id", "reason", "held", "name"],
        [[one.resource, one.key, one.reason, number, one.name] for one, number in held],
        prose=("name",),
    )


def _print_latest_runs(runs: Sequence[Mapping[str, Any]]) -> None:
    if not runs:
        print_line("no run yet: the first begins when it is due")
        return
    print_table(
        "latest runs",
        ["run", "trigger", "state", "started (UTC)", "calls", "objects", "changes", "why"],
        [
            [
                str(r["id"]),
                r["trigger"],
                r["state"],
                render_time(r["started_at"]),
                r["calls"],
                r["objects"],
                render_changes(r),
                r["error"],
            ]
            for r in runs
        ],
        prose=("changes", "why"),
    )


@connections.command()
@json_option
def discover(as_json: bool) -> None:  # noqa: FBT001
    """Read Nango's list now: enrol new, retire missing ones."""
    runtime = open_checked_runtime()
    try:
        actor = get_host_actor(runtime.settings)
        action = AuditedAction(actor, AuditAction.CONNECTIONS_DISCOVER)
        with audit_work(runtime.database, action):
            found = read_list(runtime.database, runtime.nango, runtime.settings)
            action.detail = f"{render_count(found.listed, 'connection')} in Nango's list"
    finally:
        close_runtime(runtime)
    if as_json:
        print_json(vars(found))
        return
    print_line(f"{render_count(found.listed, 'Microsoft connection')} in Nango")
    for what in ("enrolled", "returned", "retired", "paused", "woken"):
        for label in getattr(found, what):
            print_line(f"  {what}: {label}")
    for label, problem in found.problems.items():
        print_line(f"  settings of {label}: {problem}; the defaults are used", err=True)
    _print_problems(found)


def _print_problems(found: Discovery) -> None:
    """Print which parts of Nango's list could not be applied, and why."""
    if found.unreadable:
        print_line(f"{found.unreadable:,} rows of Nango's list cannot be read", err=True)
    if found.held:
        print_line(f"HELD: {found.held}; none of them is retired. {APPROVE_MISSING_HINT}", err=True)
    elif found.unconfirmed:
        print_line(
            f"{found.unconfirmed:,} connections are missing from Nango's list; the next "
            "discoveries look them up by name",
            err=True,
        )
    if not found.listed:
        print_line(
            "no connection is of a Microsoft provider; NANGO_INTEGRATIONS can name integrations",
            err=True,
        )


@connections.command("approve-missing")
@yes_option
@json_option
def approve_missing(yes: bool, as_json: bool) -> None:  # noqa: FBT001
    """Retire connections that are missing but held.

    They are held because too many left Nango's list at once. Only those that are shown are retired,
    except those that are in the list again. Their rows are kept.
    """
    runtime = open_checked_runtime()
    try:
        with runtime.database.open_transaction() as db:
            held = load_missing_connections(db)
            chosen = get_connections(db, held.ids) if held else []
        if held and not yes:
            for one in chosen:
                print_line(f"  {one.label}", err=True)
            question = f"{held.reason}. Retire these {len(chosen):,}?"
            confirm(question, "this retires connections")
        retired = _retire_chosen(runtime, chosen) if held else []
    finally:
        close_runtime(runtime)
    if as_json:
        print_json({"held": len(chosen), "retired": retired})
        return
    for label in retired:
        print_line(f"  retired: {label}")
    print_line(f"{len(retired):,} of {len(chosen):,} held connections retired")


def _retire_chosen(runtime: Runtime, chosen: list[Connection]) -> list[str]:
    """Retire held connections, and return their labels."""
    ids = [one.id for one in chosen]
    action = AuditedAction(
        get_host_actor(runtime.settings),
        AuditAction.CONNECTIONS_APPROVE_MISSING,
        parameters={"connections": ids},
    )
    with audit_work(runtime.database, action):
        retired = approve(runtime.database, runtime.nango, ids)
        action.detail = f"{len(retired):,} connections retired"
        read_list(runtime.database, runtime.nango, runtime.settings)
    return retired
