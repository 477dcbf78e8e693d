"""Commands that look: what is fresh, what is stuck, and whether the events tell the tables."""

import click

from worker.events.verify import verify as check
from worker.ops.cli.output import FAILED, age, as_json, opened, print_json, print_table
from worker.store.connections import find
from worker.store.overview import connections_overview
from worker.store.service import age_of, halt_reason


@click.command()
@as_json
def status(as_json: bool) -> None:  # noqa: FBT001
    """What is fresh, what is stuck, and why."""
    with opened() as (settings, database), database.begin() as connection:
        rows = connections_overview(connection)
        tick = age_of(connection, "tick")
        halt = halt_reason(connection)
    alive = tick is not None and tick < 6 * settings.tick_seconds + 30
    if as_json:
        print_json(
            {
                "dispatcher_alive": alive,
                "tick_age_seconds": tick,
                "halted": halt,
                "connections": rows,
            }
        )
        return
    said = "alive" if alive else "not running" if tick is None else f"silent for {age(tick)}"
    click.echo(f"dispatcher: {said}")
    if halt:
        click.echo(f"HALTED: {halt}")
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
                "; ".join(filter(None, [row["status_reason"], *row["attention"]])),
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
