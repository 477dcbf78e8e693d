"""The commands ``retry`` and ``skip``, for events that a receiver refuses."""

import click

from models.audit import AuditAction
from worker.delivery.skip import read_refused_event
from worker.delivery.skip import skip_refused_event as move_behind
from worker.delivery.store import admin
from worker.delivery.store.refusals import find_refusal, retry_refused
from worker.operations.actor import get_host_actor
from worker.operations.audit import AuditedAction, audit_work, open_audited_transaction
from worker.ops.cli.output import (
    confirm,
    json_option,
    open_checked_database,
    print_json,
    print_line,
    yes_option,
)
from worker.store.state.connections import find_connection


@click.command()
@click.argument("name")
@click.option(
    "--connection", "connections", multiple=True, help="Only this connection; may be repeated."
)
@json_option
def retry(name: str, connections: tuple[str, ...], as_json: bool) -> None:  # noqa: FBT001
    """Retry the events that the receiver of NAME refuses, without waiting."""
    with open_checked_database() as (settings, database):
        action = AuditedAction(get_host_actor(settings), AuditAction.SINKS_RETRY, subject=name)
        with open_audited_transaction(database, action) as db:
            (sink,) = admin.list_sinks(db, name)
            only = {find_connection(db, named).id for named in connections} or None
            count = retry_refused(db, sink["id"], only)
            action.parameters = {"connections": sorted(only) if only else None}
            action.detail = f"connections whose events are retried: {count:,}"
    if as_json:
        print_json({"name": name, "connections": count})
    else:
        of = "1 connection" if count == 1 else f"{count:,} connections"
        print_line(
            f"refused events of {of} are retried now; 'tenant-mirror sinks show {name}' shows the "
            "result"
        )


@click.command()
@click.argument("name")
@click.option("--connection", required=True, help="The connection whose next event is refused.")
@yes_option
@json_option
def skip(name: str, connection: str, yes: bool, as_json: bool) -> None:  # noqa: FBT001
    """Skip ONE event that the receiver of NAME refuses.

    Delivery continues with the next event. The receiver never gets that event unless it is
    replayed, so what it holds of that object is out of date. The event stays in the table.
    """
    with open_checked_database() as (settings, database):
        with database.open_transaction() as db:
            admin.list_sinks(db, name)
            known = find_connection(db, connection)
            refused = find_refusal(db, name, known.id)
        told, behind = read_refused_event(database, refused)
        about = f"event {told.seq:,} of connection {told.connection_id} ({told.event_id}): "
        about += f"{told.resource} {told.change}"
        if not yes:
            _confirm_skip(name, about, refused.reason)
        action = AuditedAction(
            get_host_actor(settings),
            AuditAction.SINKS_SKIP,
            connection=known,
            subject=name,
            parameters={"sequence": told.seq, "event_id": told.event_id},
        )
        with audit_work(database, action):
            move_behind(database, refused, behind)
    if as_json:
        facts = {"name": name, "connection_id": told.connection_id, "sequence": told.seq}
        print_json({**facts, "event_id": told.event_id, "skipped": True})
    else:
        print_line(f"sink '{name}' skipped {about}")


def _confirm_skip(name: str, about: str, reason: str) -> None:
    """Ask for confirmation. Raises UsageError without a terminal."""
    print_line(about, err=True)
    print_line(f"  {reason}", err=True)
    confirm(f"Skip it for sink '{name}'?", "this event is never delivered")
