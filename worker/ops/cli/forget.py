"""The command that purges what a retired connection left."""

import sys

import click

from worker.ops.cli.output import ProgressLines, as_json, opened, print_json
from worker.store.connections import Known, find
from worker.store.forget import forget as purge


@click.command()
@click.argument("connection")
@click.option("--yes", is_flag=True, help="Do not ask; for scripts.")
@as_json
def forget(connection: str, yes: bool, as_json: bool) -> None:  # noqa: FBT001
    """Delete all rows, change events and bookkeeping of a retired CONNECTION, for good.

    Goes on where an interrupted one ended. Its id is never used again.
    """
    with opened() as (_, database):
        with database.begin() as db:
            known = find(db, connection)
        if not yes and known.is_retired:
            _ask(known)
        progress = ProgressLines(f"{known.id} ({known.label})")
        gone = purge(database, known.id, lambda table, rows: progress(table, rows, "forgetting"))
    if as_json:
        print_json({"connection": known.label, "id": known.id, "rows": gone})
        return
    for table, rows in gone.items():
        click.echo(f"  {table}: {rows:,}")
    click.echo(
        f"{known.label}: forgotten, {sum(gone.values()):,} rows; {known.id} is not used again"
    )


def _ask(known: Known) -> None:
    """Raises UsageError where there is nobody to ask."""
    if not sys.stdin.isatty():
        raise click.UsageError("this deletes data for good; say --yes where nobody can be asked")
    who = f"connection {known.id} ({known.label}, {known.display_name or 'never read'})"
    what = "Delete all rows, change events and bookkeeping of"
    click.confirm(f"{what} {who} for good?", abort=True, err=True)
