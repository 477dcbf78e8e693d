"""The command ``erase``: erases a person's data, lists erasures, and lifts them."""

import sys
import time
from typing import TYPE_CHECKING, Any, Final

import click

from models.audit import AuditAction
from models.resources import ERASABLE
from worker.operations.actor import get_host_actor
from worker.operations.audit import AuditedAction, audit_work
from worker.ops.cli.exit_codes import EXIT_PARTIAL
from worker.ops.cli.output import (
    confirm,
    json_option,
    open_checked_database,
    print_json,
    print_line,
    print_table,
    render_time,
    yes_option,
)
from worker.ops.cli.progress import Progress
from worker.store.state.connections import Connection, find_connection

if TYPE_CHECKING:
    from worker.erasure.rows import ErasureResult
    from worker.erasure.target import ErasureTarget
    from worker.store.engine import Database

POLL_SECONDS: Final = 0.25
"""Seconds between two checks whether the sinks have received the deletion."""


@click.command()
@click.argument("connection")
@click.argument("named", metavar="[OBJECT]", required=False)
@click.option(
    "--resource",
    type=click.Choice(ERASABLE),
    help="Type of OBJECT, if its id is in no table or in several.",
)
@click.option("--wait", default=10.0, show_default=True, help="Seconds to wait for sinks.")
@click.option("--lift", "lifts", is_flag=True, help="Let the next full walk restore OBJECT.")
@click.option("--list", "lists", is_flag=True, help="List erasures: digests and dates only.")
@yes_option
@json_option
def erase(  # noqa: PLR0917 - click passes options so
    connection: str,
    named: str | None,
    resource: str | None,
    wait: float,
    lifts: bool,  # noqa: FBT001
    lists: bool,  # noqa: FBT001
    yes: bool,  # noqa: FBT001
    as_json: bool,  # noqa: FBT001
) -> None:
    """Erase what CONNECTION stores about a person permanently, and keep syncs from restoring it.

    OBJECT is an id, or the principal name or mail address of a user. Groups and sites can be
    erased, too: some are named after people.

    \b
    Deleted: its row, memberships, role assignments, held and quarantined data.
    Scrubbed: its change events. Sequence, event ids and times stay; a digest replaces its id.
    Sent: one last event 'deleted', so that receivers delete it, too.
    Kept: the digest, so that later syncs skip the object, until --lift.

    Receivers, backups and logs may hold more: see docs/erasure.md.

    The last event contains the id until every sink has received it, for at most 30 days. While a
    sink is behind, the exit code is 3; the hourly maintenance or the same command completes the
    erasure. An interrupted erasure continues where it stopped.

    \b
    Examples:
      tenant-mirror erase contoso adele@contoso.example
      tenant-mirror erase contoso 4f0c6a0e-58a1-4d3e-8a57-0d6f2a3c9b10 --yes --json
      tenant-mirror erase contoso 4f0c6a0e-58a1-4d3e-8a57-0d6f2a3c9b10 --lift
      tenant-mirror erase contoso --list
    """  # noqa: D301 - click's mark of a paragraph that is not to be wrapped
    if (named is None) != lists or (lifts and lists):
        raise click.UsageError(
            "give an OBJECT, with or without --lift, or --list without an OBJECT"
        )
    with open_checked_database() as (settings, database):
        with database.open_transaction() as db:
            known = find_connection(db, connection)
        actor = get_host_actor(settings)
        if lists:
            _print_erasures(database, known, as_json=as_json)
        elif lifts:
            action = AuditedAction(actor, AuditAction.ERASE_LIFT, connection=known)
            _lift_erasure(database, action, str(named), as_json=as_json)
        else:
            target = _find_target(database, known, str(named), resource)
            if not yes:
                _confirm_erasure(known, target)
            # An entry outlives the person's data, so it never says which object was erased.
            action = AuditedAction(
                actor,
                AuditAction.ERASE,
                connection=known,
                parameters={"resource": target.resource},
            )
            with audit_work(database, action):
                done = _run_erasure(database, known, target, wait)
                action.detail = _describe_progress(done)
            _print_report(
                known, target, done, _list_related(database, target, done), as_json=as_json
            )
            if done.sinks_behind:
                sys.exit(EXIT_PARTIAL)


def _find_target(
    database: "Database", connection: Connection, named: str, resource: str | None
) -> "ErasureTarget":
    from worker.erasure.target import find_target

    with database.open_transaction() as db:
        return find_target(db, connection, named, resource)


def _run_erasure(
    database: "Database", connection: Connection, target: "ErasureTarget", wait: float
) -> "ErasureResult":
    """Erase the object, and wait a while for the sinks to receive its deletion."""
    from worker.erasure.erase import continue_erasure, erase

    with Progress(connection.title) as progress:

        def on_rows(table: str, rows: int) -> None:
            progress.update(rows, f"scrubbing {table}")

        done = erase(database, target, on_rows)
        until = time.monotonic() + wait
        while done.sinks_behind and (left := until - time.monotonic()) > 0:
            progress.announce(f"waits at most {left:.0f} s for sinks to receive the deletion")
            time.sleep(POLL_SECONDS)
            continue_erasure(database, target, done, on_rows)
    return done


def _list_related(
    database: "Database", target: "ErasureTarget", done: "ErasureResult"
) -> list[tuple[int, str, str]]:
    from worker.erasure.erase import find_related

    return find_related(database, target, done)


def _describe_progress(done: "ErasureResult") -> str:
    rows = f"{sum(done.row_counts.values()):,} rows deleted or scrubbed"
    return f"{rows}; it waits for sinks" if done.sinks_behind else rows


def _confirm_erasure(connection: Connection, target: "ErasureTarget") -> None:
    """Ask for confirmation. Raises UsageError without a terminal."""
    whose = (
        f"connection {connection.id} ({connection.label}, "
        f"{connection.display_name or 'not read yet'})"
    )
    what = f"{target.resource} {target.id} of {whose}"
    if target.is_known:
        question = f"Erase {what} and its change events permanently?"
    else:
        question = f"Keep {what}, which is not stored here, out of the mirror?"
    confirm(question, "this deletes data")


def _print_report(
    connection: Connection,
    target: "ErasureTarget",
    done: "ErasureResult",
    others: list[tuple[int, str, str]],
    *,
    as_json: bool,
) -> None:
    commands = [
        {
            "connection_id": number,
            "resource": resource,
            "id": key,
            "command": f"tenant-mirror erase {number} {key} --resource {resource}",
        }
        for number, resource, key in others
    ]
    if as_json:
        print_json(
            {
                "connection": connection.label,
                "id": connection.id,
                "resource": target.resource,
                "erased": done.placeholder,
                "new": done.is_new,
                "rows": done.row_counts,
                "waits_for": [
                    {"sink": one.name, "status": one.status} for one in done.sinks_behind
                ],
                "may_also_be_of_this_person": commands,
            }
        )
        return
    for table, rows in done.row_counts.items():
        print_line(f"  {table}: {rows:,}")
    print_line(f"{connection.title}: {_render_outcome(target, done)}")
    for one in done.sinks_behind:
        print_line(
            f"  sink {one.name} ({one.status}) has not received the last event, which contains the "
            "id until then, for at most 30 days; the hourly maintenance checks again",
            err=True,
        )
    for command in commands:
        print_line(f"  may also belong to this person: {command['command']}")


def _render_outcome(target: "ErasureTarget", done: "ErasureResult") -> str:
    if not done.is_new and not done.row_counts:
        return f"{target.resource} {done.placeholder} was already erased"
    if not target.is_known:
        return f"{target.resource} {done.placeholder} was not stored; later syncs keep it out"
    if done.sinks_behind:
        return f"{target.resource} {done.placeholder} is erased except for its id"
    return f"{target.resource} {done.placeholder} is erased"


def _lift_erasure(
    database: "Database", action: AuditedAction, named: str, *, as_json: bool
) -> None:
    from worker.erasure.erase import lift_erasure
    from worker.erasure.target import parse_digest

    connection = action.connection
    assert connection is not None, "an erasure is of one connection"
    with database.open_transaction() as db:
        digest = parse_digest(db, named)
    with audit_work(database, action):
        lifted = lift_erasure(database, connection.id, digest)
    if as_json:
        print_json({"connection": connection.label, "id": connection.id, "lifted": lifted.mark})
        return
    print_line(
        f"{connection.title}: the erasure of {lifted.resource} {lifted.mark} is lifted; "
        "the next full walk restores it if Microsoft still has it"
    )


def _print_erasures(database: "Database", connection: Connection, *, as_json: bool) -> None:
    from worker.erasure.store.sinks import list_sinks_behind
    from worker.store.state.erasures import list_erasures

    rows: list[dict[str, Any]] = []
    with database.open_transaction() as db:
        for one in list_erasures(db, connection.id):
            behind = list_sinks_behind(db, one) if one.pending else []
            rows.append(
                {
                    "erased": one.mark,
                    "resource": one.resource,
                    "since": one.created_at,
                    "scrubbed_at": one.scrubbed_at,
                    "waits_for": [sink.name for sink in behind],
                }
            )
    if as_json:
        print_json({"connection": connection.label, "id": connection.id, "erasures": rows})
        return
    print_table(
        f"{connection.title}: erasures" if rows else f"{connection.title}: no erasures",
        ["erased", "resource", "since (UTC)", "scrubbed (UTC)", "waits for"],
        [
            [
                one["erased"],
                one["resource"],
                render_time(one["since"]),
                render_time(one["scrubbed_at"]) or "under way",
                ", ".join(one["waits_for"]) or None,
            ]
            for one in rows
        ],
    )
