"""The command ``forget``: purges the data of a retired connection."""

import click

from models.audit import AuditAction
from worker.operations.actor import get_host_actor
from worker.operations.audit import AuditedAction, audit_work
from worker.ops.cli.output import (
    confirm,
    json_option,
    open_checked_database,
    print_json,
    print_line,
    yes_option,
)
from worker.ops.cli.progress import Progress
from worker.store.state.connections import Connection, find_connection
from worker.store.state.forget import forget_connection as purge


@click.command()
@click.argument("connection")
@yes_option
@json_option
def forget(connection: str, yes: bool, as_json: bool) -> None:  # noqa: FBT001
    """Delete all rows, change events and bookkeeping of a retired CONNECTION permanently.

    An interrupted deletion continues where it stopped. The id is never used again.
    """
    with open_checked_database() as (settings, database):
        with database.open_transaction() as db:
            known = find_connection(db, connection)
        if not yes and known.is_retired:
            _confirm_forget(known)
        action = AuditedAction(get_host_actor(settings), AuditAction.FORGET, connection=known)
        with (
            audit_work(database, action),
            Progress(known.title) as progress,
        ):
            gone = purge(
                database, known.id, lambda table, rows: progress.update(rows, f"forgetting {table}")
            )
            action.detail = f"{sum(gone.values()):,} rows deleted"
    if as_json:
        print_json({"connection": known.label, "id": known.id, "rows": gone})
        return
    for table, rows in gone.items():
        print_line(f"  {table}: {rows:,}")
    print_line(
        f"{known.title}: forgotten, {sum(gone.values()):,} rows deleted; its id is never used again"
    )


def _confirm_forget(connection: Connection) -> None:
    """Ask for confirmation. Raises UsageError without a terminal."""
    who = (
        f"connection {connection.id} ({connection.label}, "
        f"{connection.display_name or 'not read yet'})"
    )
    what = "Delete all rows, change events and bookkeeping of"
    confirm(f"{what} {who} permanently?", "this deletes data")
