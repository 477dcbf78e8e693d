"""The command ``changes``: what changed in one connection since a time."""

from typing import Any

import click

from models.change_event import ChangeKind
from worker.events.changes import ChangeList, load_changes
from worker.events.event import Event
from worker.events.filter import EventFilter, parse_change_filter, parse_resource_filter
from worker.events.object_names import describe_object
from worker.events.start import parse_moment
from worker.ops.cli.output import (
    json_option,
    open_checked_database,
    print_json,
    print_line,
    print_table,
    render_time,
    render_value,
)
from worker.ops.event_line import render_event_line
from worker.store.state.connections import Connection, find_connection

DEFAULT_LIMIT = 50

_EXAMPLES = """\b
Examples:
  tenant-mirror changes 3
  tenant-mirror changes contoso --since 7d --resource users --change deleted
  tenant-mirror changes contoso --since 2026-11-22 --until 2026-11-23 --json
"""


@click.command(epilog=_EXAMPLES)
@click.argument("connection")
@click.option(
    "--since",
    metavar="TIME|AGE",
    default="1d",
    show_default=True,
    help="A time (2026-11-22, 2026-11-22T10:00Z; UTC unless it has an offset), or an age "
    "(30m, 2h, 7d).",
)
@click.option("--until", metavar="TIME|AGE", help="The end, written as --since.  [default: now]")
@click.option("--resource", "resources", multiple=True, help="Only this resource; may be repeated.")
@click.option("--change", "changes", multiple=True, help="Only this change; may be repeated.")
@click.option("--initial", is_flag=True, help="Include what first loads created.")
@click.option(
    "--limit",
    type=click.IntRange(0, 10_000),
    default=DEFAULT_LIMIT,
    show_default=True,
    help="Show at most this many changes, the newest; 0 for the counts only.",
)
@json_option
def changes(
    *,
    connection: str,
    since: str,
    until: str | None,
    resources: tuple[str, ...],
    changes: tuple[str, ...],
    initial: bool,
    limit: int,
    as_json: bool,
) -> None:
    """Show what changed in a connection: counts, then the names of what changed.

    Objects of first loads are left out, as they did not change but were read for the first time.
    """
    beginning = parse_moment(since, "--since")
    end = None if until is None else parse_moment(until, "--until")
    only = EventFilter(
        None,
        parse_resource_filter(resources),
        parse_change_filter(changes),
        with_initial=initial,
    )
    with open_checked_database() as (_, database), database.open_transaction() as db:
        known = find_connection(db, connection)
        found = load_changes(db, known.id, beginning, until=end, only=only, limit=limit)
    if as_json:
        print_json(_build_json(known, found))
    else:
        _print_changes(known, found)


def _build_json(connection: Connection, found: ChangeList) -> dict[str, Any]:
    counts: dict[str, dict[str, int]] = {}
    for one in found.counts:
        counts.setdefault(one.resource, {})[one.change] = one.number
    return {
        "connection": connection.id,
        "since": found.since,
        "until": found.until,
        "counts": counts,
        "number": found.number,
        "changes": [_build_change(event, found) for event in found.events],
    }


def _build_change(event: Event, found: ChangeList) -> dict[str, Any]:
    return {
        "seq": event.seq,
        "at": event.occurred_at,
        "resource": event.resource,
        "change": event.change,
        "id": event.object_id,
        "name": describe_object(event, found.names),
        "changed": event.changed,
        "initial": event.initial,
    }


def _print_changes(connection: Connection, found: ChangeList) -> None:
    name = render_value(connection.display_name or connection.label)
    end = "now" if found.until is None else render_value(found.until)
    print_line(f"{name}, from {render_value(found.since)} to {end}")
    if not found.number:
        print_line("nothing changed")
        return
    print_line()
    _print_counts(found)
    if not found.events:
        return
    print_line()
    left = found.number - len(found.events)
    if left:
        print_line(f"the last {len(found.events):,} of {found.number:,} (--limit shows more)")
    for event in reversed(found.events):
        print_line(
            render_event_line(
                str(render_time(event.occurred_at)),
                "",
                event.resource,
                event.change,
                describe_object(event, found.names),
                changed=event.changed,
                width=0,
            )
        )


def _print_counts(found: ChangeList) -> None:
    kinds = [*ChangeKind]
    numbers = {(one.resource, one.change): one.number for one in found.counts}
    resources = dict.fromkeys(one.resource for one in found.counts)
    others = [one for one in dict.fromkeys(one.change for one in found.counts) if one not in kinds]
    print_table(
        "",
        ["resource", *kinds, *others],
        [
            [resource, *(numbers.get((resource, kind), 0) for kind in (*kinds, *others))]
            for resource in resources
        ],
    )
