"""The command ``sync``: syncs in its own process."""

import time
from dataclasses import replace
from functools import partial

import click

from models.audit import AuditAction
from models.connection import ConnectionStatus
from models.resources import RESOURCES
from worker.core.errors import LeaseHeld, MirrorError
from worker.operations.actor import get_host_actor
from worker.operations.audit import AuditedAction, audit_work
from worker.ops.cli.exit_codes import EXIT_BUSY, EXIT_BY_RUN_STATE, EXIT_FAILED, EXIT_PARTIAL
from worker.ops.cli.output import (
    json_option,
    open_checked_runtime,
    print_error,
    print_json,
    print_line,
    render_drift,
    render_outcome,
)
from worker.ops.cli.progress import Progress
from worker.store.engine import load_server_time
from worker.store.state.connections import (
    Connection,
    find_connection,
    list_all_connections,
)
from worker.sync.plan import SyncRequest
from worker.sync.report import SyncReport
from worker.sync.run import run_to_end
from worker.sync.runtime import Runtime
from worker.wiring import close_runtime

LEASE_WAIT_SECONDS = 120.0
"""Seconds that a sync waits for a lease that another process holds."""

_resource_option = click.option(
    "--resource",
    "resources",
    multiple=True,
    type=click.Choice(list(RESOURCES)),
    help="Only this resource; may be given several times.",
)
_full_option = click.option("--full", is_flag=True, help="Read everything instead of only changes.")


@click.command()
@click.argument("connection", required=False)
@click.option("--all", "everything", is_flag=True, help="All connections that are not paused.")
@_resource_option
@_full_option
@click.option(
    "--even-if-paused", is_flag=True, help="Sync CONNECTION once although an operator paused it."
)
@json_option
def sync(
    *,
    connection: str | None,
    everything: bool,
    resources: tuple[str, ...],
    full: bool,
    even_if_paused: bool,
    as_json: bool,
) -> None:
    """Sync CONNECTION (or --all) now, in this process, regardless of its schedule.

    Waits up to two minutes for a connection that a worker is syncing. A connection that an operator
    paused is refused, or with --all left out, unless --even-if-paused is given; it stays paused.
    """
    if (connection is None) != everything:
        raise click.UsageError("give a CONNECTION or --all")
    runtime = open_checked_runtime()
    try:
        with runtime.database.open_transaction() as db:
            began = load_server_time(db)
            chosen = (
                [find_connection(db, connection)]
                if connection
                else list_all_connections(db, (ConnectionStatus.ACTIVE, ConnectionStatus.BROKEN))
            )
        if not chosen:
            print_line("no connections; try 'tenant-mirror connections discover'", err=True)
        if everything and not even_if_paused:
            paused = sum(one.is_operator_paused for one in chosen)
            chosen = [one for one in chosen if not one.is_operator_paused]
            if paused:
                print_line(
                    f"connections left out, as an operator paused them: {paused:,}", err=True
                )
        wanted = SyncRequest(
            began,
            manual=True,
            resources=frozenset(resources) or None,
            full=full,
            ignores_pause=even_if_paused,
        )
        results = [_sync_one(runtime, known, wanted) for known in chosen]
    finally:
        close_runtime(runtime)
    if as_json:
        print_json([found for found, _ in results])
    raise SystemExit(_pick_exit_code([code for _, code in results]))


def _sync_one(
    runtime: Runtime, connection: Connection, wanted: SyncRequest
) -> tuple[dict[str, object], int]:
    started = time.monotonic()
    try:
        with runtime.database.open_transaction() as db:
            request = replace(wanted, requested_at=load_server_time(db))
        action = AuditedAction(
            get_host_actor(runtime.settings),
            AuditAction.SYNC,
            connection=connection,
            parameters={
                "resources": sorted(request.resources or ()),
                "full": request.full,
                "even_if_paused": request.ignores_pause,
            },
        )
        with audit_work(runtime.database, action):
            report = _run_when_lease_free(runtime, connection, request)
            action.detail = f"the run is {report.state}"
    except MirrorError as error:
        error.connection = connection.title
        failed: dict[str, object] = {"connection": connection.label, "state": "failed"}
        return {**failed, "message": error.message}, print_error(error)
    seconds = time.monotonic() - started
    print_line(
        render_outcome(connection.title, report.state, report.tally, report.calls, seconds),
        err=True,
    )
    if report.message:
        print_line(f"  {report.message}", err=True)
    for name, line in report.resources.items():
        if line["problem"] and line["problem"] not in (report.message or ""):
            print_line(f"  {name}: {line['problem']}", err=True)
        if line["drift"]:
            print_line(f"  {name}: the deltas had missed {render_drift(line['drift'])}", err=True)
    return _report_to_dict(report, seconds), EXIT_BY_RUN_STATE[report.state]


def _report_to_dict(report: SyncReport, seconds: float) -> dict[str, object]:
    counts = {k: v for k, v in vars(report.tally).items() if isinstance(v, int)}
    return {
        "connection": report.connection_label,
        "state": report.state.value,
        "message": report.message,
        "calls": report.calls,
        "seconds": round(seconds, 3),
        **counts,
        "resources": report.resources,
    }


def _run_when_lease_free(
    runtime: Runtime, connection: Connection, request: SyncRequest
) -> SyncReport:
    """Run the sync, waiting a while for the lease and printing its holder."""
    until = time.monotonic() + LEASE_WAIT_SECONDS
    said = False
    while True:
        try:
            with Progress(connection.title) as progress:
                return run_to_end(
                    runtime,
                    connection.id,
                    request,
                    on_progress=partial(_show_progress, progress),
                )
        except LeaseHeld as busy:
            if time.monotonic() >= until:
                raise
            if not said:
                print_line(f"{connection.title}: waiting: {busy.message}", err=True)
                said = True
            time.sleep(1.0)


def _show_progress(progress: Progress, resource: str, number: int, what: str) -> None:
    """Show objects of a resource; without one, the sync waits for ``number`` seconds."""
    if resource:
        progress.update(number, f"{what} {resource}")
    else:
        progress.announce(f"{what}; continues in {number} s", at_once=True)


def _pick_exit_code(codes: list[int]) -> int:
    order = (2, EXIT_FAILED, EXIT_BUSY, EXIT_PARTIAL)
    return next((code for code in order if code in codes), 0)
