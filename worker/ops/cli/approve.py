"""The command ``approve``: shows deletions that are held back, and applies or rejects them."""

from typing import TYPE_CHECKING

import click

from models.operation import Action
from worker.operations.actor import get_host_actor
from worker.ops.cli.exit_codes import EXIT_FAILED
from worker.ops.cli.output import (
    confirm,
    json_option,
    open_checked_database,
    print_json,
    print_line,
    print_table,
    render_time,
    render_value,
    yes_option,
)
from worker.ops.cli.progress import Progress
from worker.store.state.connections import Connection, find_connection

if TYPE_CHECKING:
    from worker.operations.review import HeldResource, HeldReview
    from worker.store.engine import Database
    from worker.store.service.audit import Actor

SHOWN_NAMES = 10
"""Objects of each resource that are shown before the question."""

_EXAMPLES = """\b
Examples:
  tenant-mirror approve contoso
  tenant-mirror approve contoso --list
  tenant-mirror approve contoso --list --json | jq -r .digest
  tenant-mirror approve contoso --expect 1f6c33c0a9d2b7e4
  tenant-mirror approve contoso --reject
"""


@click.command(epilog=_EXAMPLES)
@click.argument("connection")
@click.option("--reject", is_flag=True, help="Discard the held deletions and re-read everything.")
@click.option("--list", "lists", is_flag=True, help="Show all held objects; change nothing.")
@click.option(
    "--expect",
    metavar="DIGEST",
    help="Only if exactly what --list showed with this digest is still held; asks nothing.",
)
@yes_option
@json_option
def approve(
    *, connection: str, reject: bool, lists: bool, expect: str | None, yes: bool, as_json: bool
) -> None:
    """Apply exactly the held deletions of CONNECTION, or --reject them.

    Shows what is held, which rule holds it, and what ends with it, and asks. Only what was shown is
    deleted: if anything more, or something else, is held by then, nothing happens, and the exit
    code is 1. What is held while the rows are deleted stays held.

    It runs in this process and needs no workers; if it is interrupted, a worker continues.
    'tenant-mirror audit CONNECTION' shows who decided.
    """
    from worker.operations.review import review_held

    if lists and (reject or expect or yes):
        raise click.UsageError("--list changes nothing; pass it alone")
    with open_checked_database() as (settings, database):
        with database.open_transaction() as db:
            known = find_connection(db, connection)
            review = review_held(db, known.id)
        if not review.resources and not expect:
            _print_nothing(known, as_json=as_json)
        elif lists:
            _print_list(database, known, review, as_json=as_json)
        else:
            _check_digest(known, review, expect)
            if not (reject or yes or expect):
                _confirm(database, known, review)
            action = Action.REJECT if reject else Action.APPROVE
            _decide(database, get_host_actor(settings), known, review, action, as_json=as_json)


def _print_nothing(connection: Connection, *, as_json: bool) -> None:
    if as_json:
        print_json({"connection": connection.label, "id": connection.id, "resources": []})
    else:
        print_line(f"{connection.title}: nothing is held")


def _check_digest(connection: Connection, review: "HeldReview", expect: str | None) -> None:
    """Raise ExpectationChanged if something else is held than what --list showed."""
    if expect is None or expect == review.digest:
        return
    from worker.core.errors import ExpectationChanged
    from worker.sync.finish.approve import describe_counts

    counts = describe_counts({one.held.resource: one.held.count for one in review.resources})
    raise ExpectationChanged(
        f"what is held has changed: {counts} now, with the digest {review.digest or 'of nothing'}; "
        "nothing was done, look again with --list",
        connection=connection.title,
    )


def _confirm(database: "Database", connection: Connection, review: "HeldReview") -> None:
    """Show what is held, and ask. Raises UsageError without a terminal."""
    from worker.sync.finish.approve import describe_counts

    _print_review(database, connection, review)
    counts = describe_counts(review.counts)
    confirm(
        f"Delete {counts} of {connection.title}?",
        f"this deletes {counts} (--expect {review.digest} approves exactly these)",
    )


def _print_review(database: "Database", connection: Connection, review: "HeldReview") -> None:
    from worker.operations.review import iterate_held

    print_line(connection.title, err=True)
    for one in review.resources:
        for line in _describe_resource(one):
            print_line(line, err=True)
        for found in iterate_held(database, connection.id, one.held.resource, SHOWN_NAMES):
            name = f"{render_value(found.name)}  " if found.name else ""
            print_line(f"    {name}{found.key} ({found.reason})", err=True)
        if one.held.count > SHOWN_NAMES:
            more = one.held.count - SHOWN_NAMES
            print_line(f"    and {more:,} more; --list shows all", err=True)
    for name, number in review.cascade.items():
        print_line(f"  with them end {number:,} {name.replace('_', ' ')}", err=True)
    print_line(f"  digest: {review.digest}", err=True)


def _describe_resource(one: "HeldResource") -> list[str]:
    share = f"{one.held.count:,} of {one.live_rows:,} rows ({one.percent:.0f} %)"
    name = one.held.resource.replace("_", " ")
    lines = [f"  {name}: {share}, held since {render_time(one.held.since)} UTC"]
    if one.rule:
        lines.append(f"    {one.rule}")
    if one.full_walk_at is not None:
        when = f"{render_time(one.full_walk_at)} UTC"
        after = "after" if one.is_walked_since else "before"
        lines.append(f"    the last full walk ended at {when}, {after} they were first held")
    return lines


def _print_list(
    database: "Database", connection: Connection, review: "HeldReview", *, as_json: bool
) -> None:
    from worker.operations.review import iterate_held

    found = [
        held
        for one in review.resources
        for held in iterate_held(database, connection.id, one.held.resource)
    ]
    if as_json:
        print_json(
            {
                "connection": connection.label,
                "id": connection.id,
                **review.to_json(),
                "held": [vars(one) for one in found],
            }
        )
        return
    print_table(
        f"{connection.title}: held deletions, digest {review.digest}",
        ["resource", "id", "reason", "held since (UTC)", "name"],
        [[one.resource, one.key, one.reason, render_time(one.noted_at), one.name] for one in found],
        prose=("name",),
    )


def _decide(
    database: "Database",
    actor: "Actor",
    connection: Connection,
    review: "HeldReview",
    action: Action,
    *,
    as_json: bool,
) -> None:
    from worker.operations.foreground import carry_out
    from worker.operations.request import OperationRequest

    request = OperationRequest(action, [connection.id], review.expected)
    rows = sum(review.counts.values()) + sum(review.cascade.values())
    with Progress(connection.title, total=rows) as progress:
        outcome = carry_out(
            database, actor, request, on_rows=lambda done: progress.update(done, "deleting rows")
        )
    (target,) = outcome.targets
    if as_json:
        print_json(
            {
                "connection": connection.label,
                "id": connection.id,
                "operation": outcome.operation.id,
                "state": outcome.operation.state,
                "detail": target.detail,
                **(target.result or {}),
            }
        )
    else:
        print_line(f"{connection.title}: {target.detail}", err=bool(outcome.failed))
    if outcome.failed:
        raise SystemExit(EXIT_FAILED)
