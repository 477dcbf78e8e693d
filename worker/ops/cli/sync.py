"""The commands ``sync`` and ``resync``."""

import time
from dataclasses import replace

import click

from models.audit import AuditAction
from models.connection import ConnectionStatus
from models.queues import MAINTENANCE
from models.resources import RESOURCES
from models.run import RunState, RunTrigger
from worker.core.errors import LeaseHeld, MirrorError, StateConflict
from worker.operations.actor import get_host_actor
from worker.operations.audit import AuditedAction, audit_work, open_audited_transaction
from worker.ops.cli.exit_codes import EXIT_BUSY, EXIT_BY_RUN_STATE, EXIT_FAILED, EXIT_PARTIAL
from worker.ops.cli.output import (
    ProgressPrinter,
    json_option,
    open_checked_database,
    open_checked_runtime,
    print_error,
    print_json,
    render_drift,
    render_outcome,
)
from worker.ops.cli.status_lines import explain_no_worker
from worker.store.engine import load_server_time
from worker.store.service.workers import list_unserved_queues, list_workers
from worker.store.state.connections import (
    Connection,
    find_connection,
    list_all_connections,
    request_resync,
)
from worker.store.state.runs import list_latest_runs
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
            click.echo("no connections; try 'tenant-mirror connections discover'", err=True)
        if everything and not even_if_paused:
            paused = sum(one.is_operator_paused for one in chosen)
            chosen = [one for one in chosen if not one.is_operator_paused]
            if paused:
                click.echo(
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
        error.connection = error.connection or connection.label
        failed: dict[str, object] = {"connection": connection.label, "state": "failed"}
        return {**failed, "message": error.message}, print_error(error)
    seconds = time.monotonic() - started
    click.echo(
        render_outcome(connection.label, report.state, report.tally, report.calls, seconds),
        err=True,
    )
    if report.message:
        click.echo(f"  {report.message}", err=True)
    for name, line in report.resources.items():
        if line["problem"] and line["problem"] not in (report.message or ""):
            click.echo(f"  {name}: {line['problem']}", err=True)
        if line["drift"]:
            click.echo(f"  {name}: the deltas had missed {render_drift(line['drift'])}", err=True)
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
            return run_to_end(
                runtime, connection.id, request, on_progress=ProgressPrinter(connection.label)
            )
        except LeaseHeld as busy:
            if time.monotonic() >= until:
                raise
            if not said:
                click.echo(f"{connection.label}: waiting: {busy.message}", err=True)
                said = True
            time.sleep(1.0)


def _pick_exit_code(codes: list[int]) -> int:
    order = (2, EXIT_FAILED, EXIT_BUSY, EXIT_PARTIAL)
    return next((code for code in order if code in codes), 0)


@click.command()
@click.argument("connection")
@_resource_option
@_full_option
@click.option("--wait", is_flag=True, help="Wait until a worker has finished it.")
@click.option("--timeout", default=600.0, show_default=True, help="Seconds to wait at most.")
def resync(
    connection: str,
    resources: tuple[str, ...],
    full: bool,  # noqa: FBT001
    wait: bool,  # noqa: FBT001
    timeout: float,
) -> None:
    """Ask the workers to sync CONNECTION now."""
    with open_checked_database() as (settings, database):
        with database.open_transaction() as db:
            known = find_connection(db, connection)
        action = AuditedAction(
            get_host_actor(settings),
            AuditAction.RESYNC,
            connection=known,
            parameters={"resources": sorted(resources), "full": full},
        )
        with open_audited_transaction(database, action) as db:
            if known.status not in (ConnectionStatus.ACTIVE, ConnectionStatus.BROKEN):
                raise StateConflict(
                    f"it is {known.status}, so it is not synced", connection=known.label
                )
            asked = request_resync(db, known.id, list(resources) or None, full=full)
            idle = list_unserved_queues(list_workers(db), (RunTrigger.MANUAL.value, MAINTENANCE))
        if idle:
            click.echo(f"{known.label}: queued, but {explain_no_worker(idle)}", err=True)
        if not wait:
            if idle:
                raise SystemExit(EXIT_BUSY)
            click.echo(f"{known.label}: queued; a worker usually starts it within seconds")
            return
        until = time.monotonic() + timeout
        while time.monotonic() < until:
            with database.open_transaction() as db:
                done = find_connection(db, str(known.id)).requested_at != asked
                run = next(iter(list_latest_runs(db, known.id, 1)), None)
            if done and run is not None and run["state"] != RunState.RUNNING:
                click.echo(f"{known.label}: {run['state']}{_render_reason(run['error'])}")
                raise SystemExit(EXIT_BY_RUN_STATE[RunState(run["state"])])
            time.sleep(0.5)
    click.echo(f"{known.label}: no worker has finished it within {timeout:.0f} s", err=True)
    raise SystemExit(EXIT_BUSY)


def _render_reason(error: str | None) -> str:
    return f", {error}" if error else ""
