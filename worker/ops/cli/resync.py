"""The command ``resync``: asks the workers to sync."""

import time
from datetime import datetime
from typing import Any

import click

from models.operation import Action
from models.queues import MAINTENANCE
from models.resources import RESOURCES
from models.run import RunState, RunTrigger
from worker.ops.cli.bulk import (
    Selection,
    choose_connections,
    report_single,
    run_bulk,
    run_single,
    selection_options,
)
from worker.ops.cli.exit_codes import EXIT_BUSY, EXIT_BY_RUN_STATE
from worker.ops.cli.output import json_option, open_checked_database, print_json, print_line
from worker.ops.cli.progress import Progress
from worker.ops.cli.status_lines import explain_no_worker
from worker.store.engine import Database
from worker.store.service.workers import list_unserved_queues, list_workers
from worker.store.state.connections import Connection, get_connection
from worker.store.state.runs import list_latest_runs

_EXAMPLES = """\b
Examples:
  tenant-mirror resync contoso
  tenant-mirror resync contoso --resource users --wait
  tenant-mirror resync --all --full --dry-run
  tenant-mirror resync --condition late --yes --expect 37
"""


@click.command(epilog=_EXAMPLES)
@selection_options
@click.option(
    "--resource",
    "resources",
    multiple=True,
    type=click.Choice(list(RESOURCES)),
    help="Only this resource; may be given several times.",
)
@click.option("--full", is_flag=True, help="Read everything instead of only changes.")
@click.option("--wait", is_flag=True, help="Wait until a worker has finished CONNECTION.")
@click.option("--timeout", default=600.0, show_default=True, help="Seconds to wait at most.")
@json_option
def resync(
    *,
    resources: tuple[str, ...],
    full: bool,
    wait: bool,
    timeout: float,
    as_json: bool,
    **chosen: Any,
) -> None:
    """Ask the workers to sync CONNECTION now, or all that match.

    It is queued before what is due by its schedule, and takes calls of Nango's budget as they come:
    many connections take as long as --dry-run says. A connection that an operator paused starts
    when the pause ends; one that is paused in Nango, a duplicate or retired is refused. If no
    worker serves the queue, the request stays, and the exit code is 75.
    """
    from worker.operations.request import ResyncParameters

    selection = Selection(**chosen)
    selection.check()
    if wait and selection.has_filter:
        raise click.UsageError("--wait is for one CONNECTION")
    parameters = ResyncParameters(resources, full)
    with open_checked_database() as (settings, database):
        choice = choose_connections(settings, database, Action.RESYNC, selection)
        if selection.has_filter:
            run_bulk(
                settings,
                database,
                Action.RESYNC,
                parameters,
                selection=selection,
                choice=choice,
                as_json=as_json,
            )
            if not selection.dry_run and _warn_if_idle(database, "the connections"):
                raise SystemExit(EXIT_BUSY)
            return
        (known,) = choice.connections
        outcome = run_single(settings, database, Action.RESYNC, parameters, known)
        if outcome.failed or not wait:
            is_idle = not outcome.failed and _warn_if_idle(database, known.title)
            if not is_idle or as_json or known.is_operator_paused:
                report_single(known, outcome, as_json=as_json)
            raise SystemExit(EXIT_BUSY if is_idle else 0)
        _warn_if_idle(database, known.title)
        result = outcome.targets[0].result or {}
        asked = datetime.fromisoformat(result["requested_at"])
        with Progress(known.title, is_silent=as_json) as progress:
            run = _wait_for_run(database, known, asked, timeout, progress)
    _report_run(known, run, timeout, as_json=as_json)


def _warn_if_idle(database: Database, label: str) -> bool:
    """Print that no worker serves the queue; return whether that is so."""
    with database.open_transaction() as db:
        idle = list_unserved_queues(list_workers(db), (RunTrigger.MANUAL.value, MAINTENANCE))
    if idle:
        print_line(f"{label}: requested, but {explain_no_worker(idle)}", err=True)
    return bool(idle)


def _wait_for_run(
    database: Database,
    connection: Connection,
    asked: datetime,
    timeout: float,
    progress: Progress,
) -> dict[str, Any] | None:
    """Return the run that has served the request, or None if none has in time."""
    until = time.monotonic() + timeout
    while time.monotonic() < until:
        with database.open_transaction() as db:
            is_done = get_connection(db, connection.id).requested_at != asked
            run = next(iter(list_latest_runs(db, connection.id, 1)), None)
        if is_done and run is not None and run["state"] != RunState.RUNNING:
            return dict(run)
        if run is not None and run["state"] == RunState.RUNNING:
            progress.update(run["objects"], f"run {run['id']}, {run['calls']:,} calls, objects")
        else:
            progress.announce("waits for a worker")
        time.sleep(0.5)
    return None


def _report_run(
    connection: Connection, run: dict[str, Any] | None, timeout: float, *, as_json: bool
) -> None:
    """Print the outcome of a run, and exit with its code."""
    if run is None:
        print_line(
            f"{connection.title}: no worker has finished it within {timeout:.0f} s", err=True
        )
        raise SystemExit(EXIT_BUSY)
    if as_json:
        print_json({"connection": connection.label, "id": connection.id, "run": run})
    else:
        reason = f", {run['error']}" if run["error"] else ""
        print_line(f"{connection.title}: {run['state']}{reason}")
    raise SystemExit(EXIT_BY_RUN_STATE[RunState(run["state"])])
