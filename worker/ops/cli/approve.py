"""The command ``approve``: applies or rejects deletions that are held back."""

import click

from models.audit import AuditAction
from worker.operations.actor import get_host_actor
from worker.operations.audit import AuditedAction, audit_work
from worker.ops.cli.output import open_checked_database
from worker.store.state.connections import find_connection
from worker.sync.finish.approve import approve_held, reject_held


@click.command()
@click.argument("connection")
@click.option("--reject", is_flag=True, help="Discard the held deletions and re-read everything.")
def approve(connection: str, reject: bool) -> None:  # noqa: FBT001
    """Apply exactly the held deletions of CONNECTION, or --reject them."""
    with open_checked_database() as (settings, database):
        with database.open_transaction() as db:
            known = find_connection(db, connection)
        action = AuditAction.REJECT if reject else AuditAction.APPROVE
        with audit_work(
            database, AuditedAction(get_host_actor(settings), action, connection=known)
        ) as work:
            if reject:
                work.detail = f"{reject_held(database, known.id):,} deletions rejected"
            else:
                work.detail = f"{approve_held(database, known.id):,} rows deleted"
        click.echo(f"{known.label}: {work.detail}")
