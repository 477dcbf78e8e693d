"""Commands that look: what is fresh, what is stuck, and whether the events tell the tables."""

from collections.abc import Mapping, Sequence
from typing import Any

import click

from worker.events.verify import verify as check
from worker.ops.cli.output import (
    FAILED,
    age,
    as_json,
    drift_line,
    opened,
    print_json,
    print_table,
)
from worker.store.connections import find
from worker.store.overview import connections_overview, streams_overview
from worker.store.service import age_of, halt_reason


@click.command()
@click.argument("connection", required=False)
@as_json
def status(connection: str | None, as_json: bool) -> None:  # noqa: FBT001
    """What is fresh, what is stuck, and why; of CONNECTION, its streams too."""
    with opened() as (settings, database), database.begin() as connected:
        chosen = find(connected, connection).id if connection else None
        rows = connections_overview(connected, chosen)
        streams = streams_overview(connected, chosen) if chosen is not None else None
        tick = age_of(connected, "tick")
        halt = halt_reason(connected)
    alive = tick is not None and tick < 6 * settings.tick_seconds + 30
    if as_json:
        told: dict[str, object] = {
            "dispatcher_alive": alive,
            "tick_age_seconds": tick,
            "halted": halt,
            "connections": rows,
        }
        print_json(told if streams is None else {**told, "streams": streams})
        return
    said = "alive" if alive else "not running" if tick is None else f"silent for {age(tick)}"
    click.echo(f"dispatcher: {said}")
    if halt:
        click.echo(f"HALTED: {halt}")
    _connections_table(rows)
    if streams is not None:
        click.echo()
        _streams_table(streams)


def _connections_table(rows: Sequence[Mapping[str, Any]]) -> None:
    print_table(
        "",
        ["id", "connection", "organization", "status", "fresh", "last run", "events", "attention"],
        [
            [
                str(row["id"]),
                f"{row['provider_config_key']}/{row['nango_connection_id']}",
                row["display_name"],
                row["status"],
                age(row["age_seconds"]),
                row["run_state"],
                row["events"],
                "; ".join(
                    filter(None, [row["status_reason"], row["settings_problem"], *row["attention"]])
                ),
            ]
            for row in rows
        ],
    )


def _streams_table(rows: Sequence[Mapping[str, Any]]) -> None:
    print_table(
        "streams",
        ["resource", "phase", "mode", "fresh", "last full walk", "deltas had missed", "why"],
        [
            [
                row["resource"],
                row["phase"],
                row["mode"],
                age(row["age_seconds"]),
                f"{row['full_walk_at']:%Y-%m-%d %H:%M}" if row["full_walk_at"] else "",
                drift_line(row["drift"]) if row["drift"] is not None else "",
                row["reason"] or "",
            ]
            for row in rows
        ],
    )


@click.command()
@click.argument("connection")
@as_json
def verify(connection: str, as_json: bool) -> None:  # noqa: FBT001
    """Check that the change events of CONNECTION tell its tables.

    Undoes the events from today's rows backwards, in one snapshot, and checks that each fits.
    """
    with opened() as (_, database):
        with database.begin() as db:
            known = find(db, connection)
        with database.begin() as db:
            found = check(db, known.id)
    if as_json:
        print_json({"connection": known.label, **vars(found)})
    else:
        back = "from the very first" if found.whole_history else f"back to {found.oldest_at:%F}"
        click.echo(
            f"{known.label}: {found.rows:,} live rows and {found.events:,} events, {back}: "
            f"{'all fit' if not found.problem_count else f'{found.problem_count:,} do not fit'}"
        )
        for problem in found.problems:
            click.echo(f"  {problem}")
    raise SystemExit(FAILED if found.problem_count else 0)
