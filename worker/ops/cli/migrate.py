"""The command ``migrate``."""

from functools import partial

import click

from worker.ops.cli.output import json_option, open_checked_database, print_json, print_line
from worker.ops.cli.progress import Progress
from worker.store.migration_lock import MigrationLimits


@click.command()
@click.option("--to", "revision", default="head", metavar="REVISION", help="Target revision.")
@click.option(
    "--wait",
    default=MigrationLimits.concurrent_lock,
    show_default=True,
    type=click.FloatRange(min=0.1, max=86_400),
    metavar="SECONDS",
    help="How long to wait for other sessions where no statement waits behind the migration.",
)
@json_option
def migrate(revision: str, wait: float, *, as_json: bool) -> None:
    """Migrate the database to the schema of this release.

    Safe to run at any time, several times, and from several hosts at once: it takes an advisory
    lock, gives up rather than block other sessions for long, and names the sessions that block it.
    """
    from worker.ops.schema.migrate import migrate as run

    with open_checked_database(any_schema=True) as (_, database):
        limits = MigrationLimits(concurrent_lock=wait)
        with Progress(str(database.server)) as progress:
            notes: list[str] = []
            step = partial(_show_step, progress)
            before, after = run(database, revision, limits, step, notes.append)
        if as_json:
            told = {"server": database.server, "before": before, "after": after}
            print_json(told | {"notes": notes})
        elif before == after:
            print_line(f"{database.server} is already at schema {after}")
        else:
            print_line(f"{database.server}: schema {before or 'none'} -> {after or 'none'}")
        for note in () if as_json else notes:
            print_line(note, err=True)


def _show_step(progress: Progress, done: int, total: int) -> None:
    progress.total = total
    progress.update(done, "migrations", at_once=progress.is_terminal)
