"""The command ``runs``: the history of a connection's runs, or one run."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

import click

from models.run import RunState
from worker.ops.cli.output import (
    json_option,
    open_checked_database,
    print_json,
    print_line,
    print_table,
    render_changes,
    render_time,
    render_value,
)
from worker.store.engine import load_server_time
from worker.store.state.connections import find_connection
from worker.store.state.runs import get_run, list_latest_runs

_EXAMPLES = """\b
Examples:
  tenant-mirror runs 3
  tenant-mirror runs contoso --state failed --limit 5
  tenant-mirror runs --id 4711
"""


@click.command(epilog=_EXAMPLES)
@click.argument("connection", required=False)
@click.option(
    "--limit", type=click.IntRange(1, 10_000), default=20, show_default=True, help="So many runs."
)
@click.option(
    "--state",
    type=click.Choice([state.value for state in RunState]),
    help="Only runs that ended so, or are running.",
)
@click.option("--before", type=click.IntRange(1), help="Only runs before the run of this number.")
@click.option("--id", "run_id", type=click.IntRange(1), help="Show this run, with its resources.")
@json_option
def runs(
    *,
    connection: str | None,
    limit: int,
    state: str | None,
    before: int | None,
    run_id: int | None,
    as_json: bool,
) -> None:
    """Show the latest runs of a connection, newest first, or one run.

    Finished runs are kept for 90 days, those without changes for 7.
    """
    if (connection is None) == (run_id is None):
        raise click.UsageError("name either a CONNECTION or, with --id, one run")
    with open_checked_database() as (_, database), database.open_transaction() as db:
        now = load_server_time(db)
        if run_id is not None:
            found = dict(get_run(db, run_id))
            if as_json:
                print_json(found)
            else:
                _print_run(found, now)
            return
        known = find_connection(db, str(connection))
        wanted = None if state is None else RunState(state)
        latest = list_latest_runs(db, known.id, limit, state=wanted, before=before)
    if as_json:
        print_json([dict(one) for one in latest])
    elif latest:
        _print_runs(latest, now)
    else:
        print_line("no run" + (f" is {state}" if state else " yet"))


def _print_runs(latest: list[Any], now: datetime) -> None:
    print_table(
        "",
        ["run", "trigger", "state", "started (UTC)", "took", "calls", "objects", "changes", "why"],
        [
            [
                str(one["id"]),
                one["trigger"],
                one["state"],
                render_time(one["started_at"]),
                _render_duration(one, now),
                one["calls"],
                one["objects"],
                render_changes(one),
                one["error"],
            ]
            for one in latest
        ],
        prose=("changes", "why"),
    )


def _print_run(run: Mapping[str, Any], now: datetime) -> None:
    print_line(f"run {run['id']} of connection {run['connection_id']}: {run['state']}")
    print_line(f"  trigger: {run['trigger']}")
    print_line(f"  started: {render_value(run['started_at'])}, took {_render_duration(run, now)}")
    print_line(
        f"  {run['slices']:,} slices, {run['calls']:,} calls, {run['pages']:,} pages, "
        f"{run['objects']:,} objects"
    )
    print_line(f"  changes: {render_changes(run) or 'none'}")
    if run["error"]:
        print_line(f"  why: {render_value(run['error'])}")
    reports = {
        name: report
        for name, report in (run["resources"] or {}).items()
        if isinstance(report, dict)
    }
    if reports:
        print_line()
        print_table(
            "",
            ["resource", "phase", "mode", "changes", "problem"],
            [
                [name, one["phase"], one["mode"], _render_report_changes(one), one["problem"]]
                for name, one in reports.items()
            ],
            prose=("changes", "problem"),
        )


def _render_report_changes(report: Mapping[str, Any]) -> str:
    return ", ".join(
        f"{number:,} {kind}" + (f" ({name})" if len(report["changes"]) > 1 else "")
        for name, counts in report["changes"].items()
        for kind, number in counts.items()
    )


def _render_duration(run: Mapping[str, Any], now: datetime) -> str:
    """Return how long a run took, or has been running."""
    seconds = ((run["finished_at"] or now) - run["started_at"]).total_seconds()
    if seconds < 120:
        return f"{max(0.0, seconds):.1f} s"
    minutes = seconds / 60
    return f"{minutes:.0f} min" if minutes < 120 else f"{minutes / 60:.1f} h"
