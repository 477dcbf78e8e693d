"""The command that prints the rights of people who read the mirror."""

import click

from worker.ops.cli.output import opened

_EXAMPLE = """\b
Example:
  tenant-mirror grants analyst | psql "$DATABASE_URL"
"""


@click.command(epilog=_EXAMPLE)
@click.argument("role")
def grants(role: str) -> None:
    """Print the SQL that lets the Postgres role ROLE read the mirror, and no secrets.

    ROLE may then read the schemas directory and analytics, and the change events. Nothing is
    changed here: run what is printed as the owner of the tables.
    """
    from worker.store.grants import reader_grants

    with opened() as (_, database), database.begin() as connection:
        click.echo(reader_grants(connection, role), nl=False)
