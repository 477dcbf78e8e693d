"""The commands of the group ``operations``: actions that were asked for, and cancelling them."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click

from models.operation import Action, OperationState, TargetState
from worker.core.time_text import render_count
from worker.operations.outcome import find_outcome, name_state
from worker.operations.parameter_text import describe_parameters
from worker.ops.cli.output import (
    json_option,
    open_checked_database,
    print_json,
    print_line,
    print_table,
    render_time,
)
from worker.store.state.connections import Connection, find_connection, get_connections
from worker.store.state.open_operations import list_single_targets
from worker.store.state.operations import (
    Operation,
    Target,
    count_targets,
    get_operation,
    list_operations,
    list_targets,
)

if TYPE_CHECKING:
    from worker.overview.fleet import Fleet
    from worker.overview.resync_outcome import ResyncOutcome

MAX_LIMIT = 10_000
_EXAMPLES = """\b
Examples:
  tenant-mirror operations list --state queued --state running
  tenant-mirror operations list --connection contoso
  tenant-mirror operations show 42 --state failed
  tenant-mirror operations cancel 42
"""


@click.group(epilog=_EXAMPLES)
def operations() -> None:
    """Show actions that were asked for, and cancel those that wait.

    A resync, pause, resume, approval or rejection is an operation, by whichever way it came. Those
    of the HTTP API wait for a worker; a command carries its own out at once.
    """


@operations.command("list")
@click.option("--connection", help="Only those that this connection is part of.")
@click.option(
    "--state",
    "states",
    multiple=True,
    type=click.Choice([one.value for one in OperationState]),
    help="Only in this state; may be repeated.",
)
@click.option(
    "--limit",
    type=click.IntRange(1, MAX_LIMIT),
    default=20,
    show_default=True,
    help="Operations to show.",
)
@click.option("--before", type=click.IntRange(1), help="Only operations before this number.")
@json_option
def list_(
    *,
    connection: str | None,
    states: tuple[str, ...],
    limit: int,
    before: int | None,
    as_json: bool,
) -> None:
    """List operations, newest first."""
    with open_checked_database() as (_, database), database.open_transaction() as db:
        known = find_connection(db, connection) if connection else None
        found = list_operations(
            db,
            before=before,
            limit=limit + 1,
            states=[OperationState(one) for one in states],
            connection_id=known.id if known else None,
        )
        shown = found[:limit]
        single = list_single_targets(db, [one.id for one in shown if one.targets == 1])
        named = {one.id: one for one in get_connections(db, single.values())}
    if as_json:
        print_json([_build_json(one) for one in shown])
        return
    if not shown:
        narrows = connection or states or before
        print_line("no operation matches" if narrows else "no operation was asked for yet")
        return
    titles = {number: named[one].title for number, one in single.items() if one in named}
    columns = ["operation", "asked (UTC)", "who", "via", "action", "on", "with", "state", "why"]
    rows = [_build_row(one, titles) for one in shown]
    print_table("", columns, rows, prose=("on", "with", "why"))
    if len(found) > limit:
        print_line(f"older operations: --before {shown[-1].id}", err=True)


def _build_row(one: Operation, titles: Mapping[int, str]) -> list[object]:
    return [
        str(one.id),
        render_time(one.created_at),
        one.actor,
        one.via.value,
        one.action.value,
        titles.get(one.id) or render_count(one.targets, "connection"),
        describe_parameters(one.parameters),
        name_state(one.action, one.state),
        one.error,
    ]


@operations.command()
@click.argument("operation", type=click.IntRange(1))
@click.option(
    "--state",
    type=click.Choice([one.value for one in TargetState]),
    help="Only its connections in this state.",
)
@click.option(
    "--limit",
    type=click.IntRange(1, MAX_LIMIT),
    default=50,
    show_default=True,
    help="Connections to show.",
)
@json_option
def show(*, operation: int, state: str | None, limit: int, as_json: bool) -> None:
    """Show one operation: how far it is, what it waits for, and what became of each connection."""
    from worker.operations.progress import describe_progress
    from worker.overview.fleet import load_fleet

    with open_checked_database() as (settings, database):
        with database.open_transaction() as db:
            found = get_operation(db, operation)
            counts = count_targets(db, operation)
            wanted = None if state is None else TargetState(state)
            targets = list_targets(db, operation, limit=limit, state=wanted)
            named = get_connections(db, [one.connection_id for one in targets])
        ids = [one.connection_id for one in targets] if found.action is Action.RESYNC else []
        fleet = load_fleet(database, settings, ids=ids)
    syncs = _find_syncs(fleet, found.action, targets)
    sentence = describe_progress(found, counts, fleet.service)
    if as_json:
        told = {number: one.to_json() for number, one in syncs.items()}
        shown = [vars(one) | {"sync": told.get(one.connection_id)} for one in targets]
        print_json(
            {**_build_json(found), "sentence": sentence, "counts": counts, "connections": shown}
        )
        return
    print_line(f"operation {found.id}, {found.action} by {found.actor}: {sentence}")
    if asked := describe_parameters(found.parameters):
        print_line(f"  with {asked}")
    print_line()
    _print_targets(found.action, targets, named, syncs)
    left = (found.targets if wanted is None else counts[wanted]) - len(targets)
    if left > 0:
        print_line(f"and {left:,} more: --limit N or --json shows them", err=True)


def _build_json(one: Operation) -> dict[str, Any]:
    """Return an operation for programs, also with what people are told that it came to."""
    return {**vars(one), "outcome": find_outcome(one.action, one.state)}


def _find_syncs(
    fleet: "Fleet", action: Action, targets: Sequence[Target]
) -> Mapping[int, "ResyncOutcome"]:
    """Return what a resync has led to, by connection."""
    from worker.overview.resync_outcome import find_resync_outcome

    done = [one for one in targets if action is Action.RESYNC and one.state is TargetState.DONE]
    found = {
        one.connection_id: find_resync_outcome(fleet.by_id.get(one.connection_id), one.finished_at)
        for one in done
    }
    return {number: one for number, one in found.items() if one is not None}


def _print_targets(
    action: Action,
    targets: Sequence[Target],
    named: Sequence[Connection],
    syncs: Mapping[int, "ResyncOutcome"],
) -> None:
    from worker.overview.resync_outcome import describe_resync_outcome

    if not targets:
        print_line("no connection of it is in that state")
        return
    titles = {one.id: one.title for one in named}
    print_table(
        "",
        ["connection", "state", f"{name_state(action, TargetState.DONE)} (UTC)", "detail"],
        [
            [
                titles.get(one.connection_id, f"id {one.connection_id}"),
                name_state(action, one.state),
                render_time(one.finished_at),
                describe_resync_outcome(syncs[one.connection_id])
                if one.connection_id in syncs
                else one.detail,
            ]
            for one in targets
        ],
        prose=("connection", "detail"),
    )


@operations.command()
@click.argument("operation", type=click.IntRange(1))
@json_option
def cancel(*, operation: int, as_json: bool) -> None:
    """Cancel an operation that no process has begun.

    What has begun is not undone: use the opposite action when it is done.
    """
    from worker.operations.actor import get_host_actor
    from worker.operations.cancel import cancel_operation

    with open_checked_database() as (settings, database):
        cancelled = cancel_operation(database, get_host_actor(settings), operation)
    if as_json:
        told: dict[str, Any] = vars(cancelled)
        print_json(told)
    else:
        meant = render_count(cancelled.targets, "connection")
        print_line(f"operation {operation}, {cancelled.action} of {meant}: {cancelled.error}")
