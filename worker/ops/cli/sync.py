"""Commands that bring connections up to date."""

import time
from datetime import datetime

import click
from sqlalchemy import func, select

from models.connection import ConnectionStatus
from models.resources import RESOURCES
from models.run import RunState, RunTrigger
from worker.core.errors import Busy, Refused, Trouble
from worker.ops.cli.health_lines import no_worker
from worker.ops.cli.output import (
    BUSY,
    EXIT_OF,
    FAILED,
    PARTIAL,
    ProgressLines,
    as_json,
    drift_line,
    explain,
    opened,
    outcome_line,
    print_json,
    ready_kit,
)
from worker.store.connections import Known, all_connections, find, request_resync
from worker.store.runs import latest_runs
from worker.store.workers import list_workers, unserved
from worker.sync.approve import approve_held, reject_held
from worker.sync.books import Report
from worker.sync.plan import Order
from worker.sync.run import Kit, run_to_end
from worker.tasks.queues import MAINTENANCE
from worker.wiring import close_kit

LEASE_PATIENCE = 120.0
"""Seconds that a sync waits for a lease that another process holds."""

_resource = click.option(
    "--resource",
    "resources",
    multiple=True,
    type=click.Choice(list(RESOURCES)),
    help="Only this resource; may be given several times.",
)
_full = click.option("--full", is_flag=True, help="Walk everything, instead of only changes.")


@click.command()
@click.argument("connection", required=False)
@click.option("--all", "everything", is_flag=True, help="Every connection that is not paused.")
@_resource
@_full
@as_json
def sync(
    connection: str | None,
    everything: bool,  # noqa: FBT001
    resources: tuple[str, ...],
    full: bool,  # noqa: FBT001
    as_json: bool,  # noqa: FBT001
) -> None:
    """Sync CONNECTION (or --all) here and now, in this process, whatever the clocks say.

    Waits up to two minutes for a connection that a worker is syncing just now.
    """
    if (connection is None) != everything:
        raise click.UsageError("name a CONNECTION, or say --all")
    kit = ready_kit()
    try:
        with kit.database.begin() as db:
            chosen = (
                [find(db, connection)]
                if connection
                else all_connections(db, (ConnectionStatus.ACTIVE, ConnectionStatus.BROKEN))
            )
        if not chosen:
            click.echo("no connections; try 'tenant-mirror connections discover'", err=True)
        results = [_sync_one(kit, known, resources, full=full) for known in chosen]
    finally:
        close_kit(kit)
    if as_json:
        print_json([found for found, _ in results])
    raise SystemExit(_worst([code for _, code in results]))


def _sync_one(
    kit: Kit, known: Known, resources: tuple[str, ...], *, full: bool
) -> tuple[dict[str, object], int]:
    started = time.monotonic()
    try:
        with kit.database.begin() as db:
            now: datetime = db.execute(select(func.clock_timestamp())).scalar_one()
        order = Order(now, manual=True, resources=frozenset(resources) or None, full=full)
        report = _patiently(kit, known, order)
    except Trouble as trouble:
        trouble.connection = trouble.connection or known.label
        failed: dict[str, object] = {"connection": known.label, "state": "failed"}
        return {**failed, "message": trouble.message}, explain(trouble)
    seconds = time.monotonic() - started
    click.echo(
        outcome_line(known.label, report.state, report.tally, report.calls, seconds), err=True
    )
    if report.message:
        click.echo(f"  {report.message}", err=True)
    for name, line in report.resources.items():
        if line["problem"] and line["problem"] not in (report.message or ""):
            click.echo(f"  {name}: {line['problem']}", err=True)
        if line["drift"]:
            click.echo(f"  {name}: the deltas had missed {drift_line(line['drift'])}", err=True)
    return _as_dict(report, seconds), EXIT_OF[report.state]


def _as_dict(report: Report, seconds: float) -> dict[str, object]:
    counts = {k: v for k, v in vars(report.tally).items() if isinstance(v, int)}
    return {
        "connection": report.connection,
        "state": report.state.value,
        "message": report.message,
        "calls": report.calls,
        "seconds": round(seconds, 3),
        **counts,
        "resources": report.resources,
    }


def _patiently(kit: Kit, known: Known, order: Order) -> Report:
    """Wait for the lease for a while, saying who has it."""
    until = time.monotonic() + LEASE_PATIENCE
    said = False
    while True:
        try:
            return run_to_end(kit, known.id, order, progress=ProgressLines(known.label))
        except Busy as busy:
            if time.monotonic() >= until:
                raise
            if not said:
                click.echo(f"{known.label}: waiting, as {busy.message}", err=True)
                said = True
            time.sleep(1.0)


def _worst(codes: list[int]) -> int:
    order = (2, FAILED, BUSY, PARTIAL)
    return next((code for code in order if code in codes), 0)


@click.command()
@click.argument("connection")
@_resource
@_full
@click.option("--wait", is_flag=True, help="Wait until a worker has done it.")
@click.option("--timeout", default=600.0, show_default=True, help="Seconds to wait at most.")
def resync(
    connection: str,
    resources: tuple[str, ...],
    full: bool,  # noqa: FBT001
    wait: bool,  # noqa: FBT001
    timeout: float,
) -> None:
    """Ask the workers to sync CONNECTION now."""
    with opened() as (_, database):
        with database.begin() as db:
            known = find(db, connection)
            if known.status not in (ConnectionStatus.ACTIVE, ConnectionStatus.BROKEN):
                raise Refused(f"it is {known.status}, so nobody syncs it", connection=known.label)
            asked = request_resync(db, known.id, list(resources) or None, full=full)
            idle = unserved(list_workers(db), (RunTrigger.MANUAL.value, MAINTENANCE))
        if idle:
            click.echo(f"{known.label}: asked for, but {no_worker(idle)}", err=True)
        if not wait:
            if idle:
                raise SystemExit(BUSY)
            click.echo(f"{known.label}: asked for; the workers take it up within seconds")
            return
        until = time.monotonic() + timeout
        while time.monotonic() < until:
            with database.begin() as db:
                done = find(db, str(known.id)).requested_at != asked
                run = next(iter(latest_runs(db, known.id, 1)), None)
            if done and run is not None and run["state"] != RunState.RUNNING:
                click.echo(f"{known.label}: {run['state']}{_because(run['error'])}")
                raise SystemExit(EXIT_OF[RunState(run["state"])])
            time.sleep(0.5)
    click.echo(f"{known.label}: no worker has done it within {timeout:.0f} s", err=True)
    raise SystemExit(BUSY)


def _because(error: str | None) -> str:
    return f", {error}" if error else ""


@click.command()
@click.argument("connection")
@click.option("--reject", is_flag=True, help="Drop the held deletions and walk everything anew.")
def approve(connection: str, reject: bool) -> None:  # noqa: FBT001
    """Apply the deletions of CONNECTION that are held back, exactly those; or --reject them."""
    with opened() as (_, database):
        with database.begin() as db:
            known = find(db, connection)
        if reject:
            click.echo(f"{known.label}: {reject_held(database, known.id):,} deletions rejected")
        else:
            click.echo(f"{known.label}: {approve_held(database, known.id):,} rows deleted")
