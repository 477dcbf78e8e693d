"""The command ``approve``: applies or rejects deletions that are held back."""

import click

from worker.ops.cli.output import open_checked_database
from worker.store.state.connections import find_connection
from worker.sync.finish.approve import approve_held, reject_held


@click.command()
@click.argument("connection")
@click.option("--reject", is_flag=True, help="Discard the held deletions and re-read everything.")
def approve(connection: str, reject: bool) -> None:  # noqa: FBT001
    """Apply exactly the held deletions of CONNECTION, or --reject them."""
    with open_checked_database() as (_, database):
        with database.open_transaction() as db:
            known = find_connection(db, connection)
        if reject:
            click.echo(f"{known.label}: {reject_held(database, known.id):,} deletions rejected")
        else:
            click.echo(f"{known.label}: {approve_held(database, known.id):,} rows deleted")
