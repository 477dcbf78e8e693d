"""The command ``audit``: who did what, when, through which face."""

from collections.abc import Mapping, Sequence
from datetime import datetime

import click

from models.audit import AuditAction
from worker.operations.outcome import name_state
from worker.operations.parameter_text import describe_parameters
from worker.ops.cli.output import (
    json_option,
    open_checked_database,
    print_json,
    print_line,
    print_table,
    render_time,
)
from worker.ops.cli.since import parse_since
from worker.store.engine import load_server_time
from worker.store.service.audit import AuditEntry, list_audit
from worker.store.state.connections import Connection, find_connection, get_connections

MAX_LIMIT = 10_000

_EXAMPLES = """\b
Examples:
  tenant-mirror audit --since 1d
  tenant-mirror audit contoso --limit 100
  tenant-mirror audit --action approve --action reject --json
  tenant-mirror audit --actor ann --before 4711
"""


@click.command(epilog=_EXAMPLES)
@click.argument("connection", required=False)
@click.option(
    "--limit",
    type=click.IntRange(1, MAX_LIMIT),
    default=20,
    show_default=True,
    help="Entries to show.",
)
@click.option(
    "--since",
    metavar="TIME|AGE",
    help="Only entries since a time (2026-11-22T10:00Z) or an age ago (30m, 2h, 7d).",
)
@click.option(
    "--action",
    "actions",
    multiple=True,
    metavar="ACTION",
    type=click.Choice([one.value for one in AuditAction]),
    help="Only this action, such as pause or sinks.add; may be repeated.",
)
@click.option("--actor", help="Only what this operator or token did.")
@click.option("--before", type=click.IntRange(1), help="Only entries before this number.")
@json_option
def audit(
    *,
    connection: str | None,
    limit: int,
    since: str | None,
    actions: tuple[str, ...],
    actor: str | None,
    before: int | None,
    as_json: bool,
) -> None:
    """Show what operators did, newest first: all of it, or what concerns CONNECTION.

    Each action through the command line, the HTTP API or the service itself has an entry: when,
    who, through which face (cli, api, page or service), what, on what, and its outcome. "accepted"
    means that the work was queued or has begun; a later entry has its outcome. A resync is
    "requested" once it is recorded ("done" with --json); 'runs' tells the rest. Entries cannot be
    changed or removed, and outlive the connection that they are about.

    The name of an operator of the command line is the user of the host, or TENANT_MIRROR_ACTOR.
    """
    with open_checked_database() as (_, database), database.open_transaction() as db:
        known = find_connection(db, connection) if connection else None
        start: datetime | None = parse_since(since, load_server_time(db)) if since else None
        entries = list_audit(
            db,
            before=before,
            limit=limit + 1,
            connection_id=known.id if known else None,
            actor=actor,
            actions=actions,
            since=start,
        )
        shown = entries[:limit]
        concerned = get_connections(db, {one.connection_id for one in shown if one.connection_id})
    known_by_id = {one.id: one for one in concerned}
    if as_json:
        print_json([vars(one) | {"organization": _find_name(one, known_by_id)} for one in shown])
        return
    if not shown:
        narrows = connection or since or actions or actor or before
        print_line("no entry matches" if narrows else "no operator has done anything yet")
        return
    print_actions("", shown, known_by_id)
    if len(entries) > limit:
        print_line(f"older entries: --before {shown[-1].id}", err=True)


def print_actions(
    title: str, entries: Sequence[AuditEntry], known: Mapping[int, Connection]
) -> None:
    """Print entries of the audit as a table; ``known`` has the connections that still exist."""
    columns = ["entry", "time (UTC)", "who", "via", "action", "outcome", "on", "with", "detail"]
    rows = [_build_row(entry, known) for entry in entries]
    print_table(title, columns, rows, prose=("on", "with", "detail"))


def _find_name(entry: AuditEntry, known: Mapping[int, Connection]) -> str | None:
    """Return the organization's name; an entry has none, as it outlives the connection."""
    found = known.get(entry.connection_id) if entry.connection_id else None
    return found.display_name if found else None


def _describe_subject(entry: AuditEntry, known: Mapping[int, Connection]) -> str | None:
    if entry.connection_id is None:
        return entry.subject
    found = known.get(entry.connection_id)
    return found.title if found else f"{entry.subject} (id {entry.connection_id})"


def _build_row(entry: AuditEntry, known: Mapping[int, Connection]) -> list[object]:
    return [
        str(entry.id),
        render_time(entry.occurred_at),
        entry.actor,
        entry.via.value,
        entry.action,
        name_state(entry.action, entry.outcome.value),
        _describe_subject(entry, known),
        describe_parameters(entry.parameters),
        entry.detail,
    ]
