"""The command ``grants``: prints the SQL that lets a role read the mirror."""

import click

from worker.ops.cli.output import open_checked_database

_EXAMPLE = """\b
Example:
  tenant-mirror grants analyst | psql "$DATABASE_URL"
"""


@click.command(epilog=_EXAMPLE)
@click.argument("role")
def grants(role: str) -> None:
    """Print the SQL that lets the Postgres role ROLE read the mirror, and no secrets.

    ROLE may then read the schemas directory, analytics and history, and the change events. This
    command changes nothing: run its output as the owner of the tables.
    """
    from worker.store.grants import render_reader_grants

    with open_checked_database() as (_, database), database.open_transaction() as db:
        click.echo(render_reader_grants(db, role), nl=False)
