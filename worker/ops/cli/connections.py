"""Commands about connections."""

import click

from worker.ops.cli.output import age, as_json, opened, print_json, print_table, ready_kit
from worker.store.connections import find
from worker.store.overview import connections_overview, held_samples, streams_overview
from worker.store.runs import latest_runs
from worker.sync.discover import discover as read_list
from worker.wiring import close_kit


@click.group()
def connections() -> None:
    """List, show and discover connections."""


@connections.command("list")
@as_json
def list_them(as_json: bool) -> None:  # noqa: FBT001
    """Every connection, retired ones included."""
    with opened() as (_, database), database.begin() as connection:
        rows = connections_overview(connection)
    if as_json:
        print_json(rows)
        return
    print_table(
        "",
        ["id", "integration", "Nango connection", "organization", "status", "fresh", "why"],
        [
            [
                str(row["id"]),
                row["provider_config_key"],
                row["nango_connection_id"],
                row["display_name"],
                row["status"],
                age(row["age_seconds"]),
                "; ".join(filter(None, [row["status_reason"], row["settings_problem"]])),
            ]
            for row in rows
        ],
    )


@connections.command()
@click.argument("connection")
@as_json
def show(connection: str, as_json: bool) -> None:  # noqa: FBT001
    """One connection: its streams and its latest runs."""
    with opened() as (_, database), database.begin() as db:
        known = find(db, connection)
        overview = connections_overview(db, known.id)[0]
        streams = streams_overview(db, known.id)
        runs = [dict(run) for run in latest_runs(db, known.id)]
        held = held_samples(db, known.id)
    if as_json:
        print_json({**overview, "streams": streams, "runs": runs, "held": held})
        return
    click.echo(f"{known.label}: {known.display_name or 'not read yet'}, {known.status}")
    for fact in ("tenant_id", "status_reason", "settings_problem", "holder"):
        if overview[fact]:
            click.echo(f"  {fact.replace('_', ' ')}: {overview[fact]}")
    for matter in overview["attention"]:
        click.echo(f"  attention: {matter}")
    click.echo(f"  change events: {overview['events']:,}\n")
    print_table(
        "streams",
        ["resource", "phase", "mode", "fresh", "held", "quarantined", "why"],
        [
            [
                s["resource"],
                s["phase"],
                s["mode"],
                age(s["age_seconds"]),
                s["held"],
                s["quarantined"],
                "; ".join(filter(None, [s["reason"], s["unresolved"]])),
            ]
            for s in streams
        ],
    )
    if held:
        click.echo()
        print_table(
            "deletions that wait for 'tenant-mirror approve' (some of them)",
            ["resource", "key", "reason", "of"],
            [[h["resource"], h["key"], h["reason"], h["number"]] for h in held],
        )
    click.echo()
    print_table(
        "latest runs",
        [
            "run",
            "trigger",
            "state",
            "started",
            "calls",
            "objects",
            "created",
            "updated",
            "deleted",
            "restored",
            "why",
        ],
        [
            [
                str(r["id"]),
                r["trigger"],
                r["state"],
                f"{r['started_at']:%Y-%m-%d %H:%M:%S}",
                r["calls"],
                r["objects"],
                r["created"],
                r["updated"],
                r["deleted"],
                r["restored"],
                r["error"] or "",
            ]
            for r in runs
        ],
    )


@connections.command()
@as_json
def discover(as_json: bool) -> None:  # noqa: FBT001
    """Read Nango's list now: enrol new connections, retire vanished ones."""
    kit = ready_kit()
    try:
        found = read_list(kit.database, kit.nango, kit.settings)
    finally:
        close_kit(kit)
    if as_json:
        print_json(vars(found))
        return
    click.echo(f"{found.listed:,} Microsoft connections in Nango")
    for what in ("enrolled", "returned", "retired", "paused", "woken"):
        for label in getattr(found, what):
            click.echo(f"  {what}: {label}")
    for label, problem in found.problems.items():
        click.echo(f"  settings of {label}: {problem}; the defaults are used", err=True)
    if found.unreadable:
        click.echo(f"{found.unreadable:,} rows of Nango's list cannot be read", err=True)
    if found.unconfirmed:
        click.echo(
            f"{found.unconfirmed:,} connections are missing from Nango's list and are asked for by "
            "name at the next discoveries",
            err=True,
        )
    if not found.listed:
        click.echo(
            "none is of a Microsoft provider; NANGO_INTEGRATIONS can name integrations", err=True
        )
