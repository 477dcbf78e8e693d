"""The command ``events replay``, which delivers events again."""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace

import click

from models.audit import AuditAction
from models.sink import SinkStatus
from worker.core.errors import InvalidInput
from worker.delivery.store.replay import (
    ReplayPlan,
    ReplayTarget,
    count_replayed_events,
    find_replay_target,
    plan_replay,
)
from worker.delivery.store.replay import move_positions_back as move_back
from worker.events.start import FromSnapshot, StartPosition, parse_start_position
from worker.operations.actor import get_host_actor
from worker.operations.audit import AuditedAction, open_audited_transaction
from worker.ops.cli.exit_codes import EXIT_PARTIAL
from worker.ops.cli.output import (
    confirm,
    json_option,
    open_checked_database,
    print_json,
    print_line,
    yes_option,
)
from worker.ops.cli.progress import Progress
from worker.store.engine import Database
from worker.store.state.connections import find_connection

MAX_LISTED_CONNECTIONS = 20
"""Connections that are listed one by one; others are only counted."""

_EXAMPLES = """\b
Examples:
  tenant-mirror events replay crm --from 2h
  tenant-mirror events replay crm --from 2026-11-22T10:00Z --connection contoso
  tenant-mirror events replay crm --from 42 --connection contoso
  tenant-mirror events replay crm --from oldest --yes
  tenant-mirror events replay crm --from snapshot
"""


@click.command(epilog=_EXAMPLES)
@click.argument("sink")
@click.option(
    "--from",
    "start",
    metavar="SEQ|TIME|AGE|oldest|snapshot",
    required=True,
    help="A sequence number of one connection (42), a time (2026-11-22, 2026-11-22T10:00Z; UTC "
    "unless it has an offset), an age (30m, 2h, 7d), oldest, or snapshot.",
)
@click.option(
    "--connection", "connections", multiple=True, help="Only this connection; may be repeated."
)
@yes_option
@json_option
def replay(
    *, sink: str, start: str, connections: tuple[str, ...], yes: bool, as_json: bool
) -> None:
    """Deliver events to SINK again, from a given position.

    The events keep their ids. Positions move back, never forward: no event is skipped. A receiver
    that drops events by their sequence has to reset what it remembers first. With snapshot, SINK
    gets the current rows as 'created' events, and then all later events.
    """
    beginning = parse_start_position(start)
    with open_checked_database() as (settings, database):
        wanted = _find_target(database, sink, connections)
        if not yes:
            _confirm_replay(database, wanted, beginning, is_silent=as_json)
        action = AuditedAction(
            get_host_actor(settings),
            AuditAction.EVENTS_REPLAY,
            subject=sink,
            parameters={"from": start, "connections": sorted(wanted.connection_ids or ()) or None},
        )
        with open_audited_transaction(database, action) as db:
            plan = move_back(db, wanted, beginning)
            action.detail = f"connections replayed: {len(plan.replayed):,}"
        counts = _count_events(database, wanted, plan, is_silent=as_json)
    if as_json:
        print_json(_build_json(wanted, start, plan, counts))
    else:
        _print_plan(wanted, beginning, plan, counts, "gets")
        if plan.replayed and wanted.status is not SinkStatus.ACTIVE:
            print_line(f"it is {wanted.status}; resume it with 'tenant-mirror sinks resume {sink}'")
    sys.exit(EXIT_PARTIAL if any(one.needs_action for one in plan.skipped) else 0)


def _find_target(database: Database, name: str, connections: Sequence[str]) -> ReplayTarget:
    """Return the sink and its connections. Raises NotFound, and InvalidInput if it has none."""
    with database.open_transaction() as db:
        found = find_replay_target(db, name)
        known = [find_connection(db, named) for named in connections]
    for one in known:
        if found.connections is not None and one.id not in found.connections:
            raise InvalidInput(f"sink '{name}' gets no events of {one.label}")
    return replace(found, connection_ids=frozenset(one.id for one in known) or None)


def _count_events(
    database: Database, sink: ReplayTarget, plan: ReplayPlan, *, is_silent: bool
) -> Mapping[int, int]:
    """Count the events of each connection, which takes long where a sink wants some of them."""
    label, total = f"sink '{sink.name}'", len(plan.replayed)
    with (
        Progress(label, total=total, is_silent=is_silent) as progress,
        database.open_transaction() as db,
    ):
        return count_replayed_events(
            db, sink, plan, lambda done: progress.update(done, "connections counted")
        )


def _confirm_replay(
    database: Database, sink: ReplayTarget, start: StartPosition, *, is_silent: bool
) -> None:
    """Print the plan and ask. Raises UsageError without a terminal."""
    with database.open_transaction() as db:
        plan = plan_replay(db, sink, start)
    counts = _count_events(database, sink, plan, is_silent=is_silent)
    _print_plan(sink, start, plan, counts, "would get", err=True)
    if plan.replayed:
        question = f"Replay to sink '{sink.name}' from there?"
        confirm(question, "receivers get these events again")


def _print_plan(
    sink: ReplayTarget,
    start: StartPosition,
    plan: ReplayPlan,
    counts: Mapping[int, int],
    verb: str,
    *,
    err: bool = False,
) -> None:
    """Print what is delivered again and from where; connections with most events first."""
    print_line(_render_summary(sink, start, plan, counts, verb), err=err)
    again = sorted(plan.replayed, key=lambda one: -counts[one.connection_id])
    for one in again[:MAX_LISTED_CONNECTIONS]:
        if isinstance(start, FromSnapshot):
            about = f"its current rows, then event {one.first:,} and later ones"
        else:
            kept = ", the oldest that is retained" if one.from_oldest else ""
            about = f"{counts[one.connection_id]:,} events, from {one.first:,}{kept}"
        print_line(f"  {one.label}: {about}", err=err)
    _print_remaining(len(again), err=err)
    for left in plan.skipped[:MAX_LISTED_CONNECTIONS]:
        print_line(f"  {left.label} is not replayed: {left.reason}", err=err)
    _print_remaining(len(plan.skipped), err=err)


def _print_remaining(number: int, *, err: bool) -> None:
    if number > MAX_LISTED_CONNECTIONS:
        print_line(f"  and {number - MAX_LISTED_CONNECTIONS:,} more connections", err=err)


def _render_summary(
    sink: ReplayTarget, start: StartPosition, plan: ReplayPlan, counts: Mapping[int, int], verb: str
) -> str:
    of = f"of {len(plan.replayed):,} connection{'s' if len(plan.replayed) != 1 else ''}"
    if not plan.replayed:
        return f"sink '{sink.name}': there is nothing to replay"
    if isinstance(start, FromSnapshot):
        return f"sink '{sink.name}' {verb} a snapshot {of}"
    return f"sink '{sink.name}' {verb} {sum(counts.values()):,} events again, {of}"


def _build_json(
    sink: ReplayTarget, start: str, plan: ReplayPlan, counts: Mapping[int, int]
) -> dict[str, object]:
    return {
        "sink": sink.name,
        "status": sink.status,
        "from": start,
        "events": sum(counts.values()),
        "connections": [
            {
                "connection_id": one.connection_id,
                "connection": one.label,
                "next_seq": one.first,
                "events": counts[one.connection_id],
                "oldest_kept": one.from_oldest,
            }
            for one in plan.replayed
        ],
        "left_alone": [
            {
                "connection_id": one.connection_id,
                "connection": one.label,
                "why": one.reason,
                "refused": one.needs_action,
            }
            for one in plan.skipped
        ],
    }
