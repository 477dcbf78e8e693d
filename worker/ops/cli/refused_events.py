"""The commands ``retry`` and ``skip``, for events that a receiver refuses."""

import sys

import click

from worker.delivery.skip import read_refused_event
from worker.delivery.skip import skip_refused_event as move_behind
from worker.delivery.store import admin
from worker.delivery.store.refusals import find_refusal, retry_refused
from worker.ops.cli.output import json_option, open_checked_database, print_json
from worker.store.state.connections import find_connection


@click.command()
@click.argument("name")
@click.option("--connection", "connections", multiple=True, help="Only this one; may be repeated.")
@json_option
def retry(name: str, connections: tuple[str, ...], as_json: bool) -> None:  # noqa: FBT001
    """Try events that the receiver of NAME refuses now, not when their pauses are over."""
    with open_checked_database() as (_, database), database.open_transaction() as db:
        (sink,) = admin.list_sinks(db, name)
        only = {find_connection(db, named).id for named in connections} or None
        count = retry_refused(db, sink["id"], only)
    if as_json:
        print_json({"name": name, "connections": count})
    else:
        of = "1 connection" if count == 1 else f"{count:,} connections"
        click.echo(
            f"refused events of {of} are tried now; 'sinks show {name}' says what comes of it"
        )


@click.command()
@click.argument("name")
@click.option("--connection", required=True, help="Whose next event is refused.")
@click.option("--yes", is_flag=True, help="Do not ask; for scripts.")
@json_option
def skip(name: str, connection: str, yes: bool, as_json: bool) -> None:  # noqa: FBT001
    """Pass over ONE event that the receiver of NAME refuses, and go on behind it.

    The receiver never gets that event, unless it is replayed: what it holds of that object is then
    out of date. The event stays in the table.
    """
    with open_checked_database() as (_, database):
        with database.open_transaction() as db:
            admin.list_sinks(db, name)
            refused = find_refusal(db, name, find_connection(db, connection).id)
        told, behind = read_refused_event(database, refused)
        about = f"event {told.seq:,} of connection {told.connection_id} ({told.event_id}): "
        about += f"{told.resource} {told.change}"
        if not yes:
            _confirm_skip(name, about, refused.reason)
        move_behind(database, refused, behind)
    if as_json:
        facts = {"name": name, "connection_id": told.connection_id, "sequence": told.seq}
        print_json({**facts, "event_id": told.event_id, "skipped": True})
    else:
        click.echo(f"sink '{name}' never gets {about}")


def _confirm_skip(name: str, about: str, reason: str) -> None:
    """Ask for confirmation. Raises UsageError without a terminal."""
    click.echo(f"{about}\n  {reason}", err=True)
    if not sys.stdin.isatty():
        raise click.UsageError(
            "this event is never delivered; pass --yes to confirm without a terminal"
        )
    click.confirm(f"Go on without it at sink '{name}'?", abort=True, err=True)
