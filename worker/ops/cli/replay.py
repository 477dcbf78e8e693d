"""The command that has events delivered once more."""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace

import click

from models.sink import SinkStatus
from worker.core.beginning import Beginning, Snapshot, parsed
from worker.core.errors import Halt
from worker.ops.cli.output import PARTIAL, as_json, opened, print_json
from worker.store.connections import find
from worker.store.engine import Database
from worker.store.replay import Plan, Target, counted, planned, target
from worker.store.replay import replay as move_back

SHOWN = 20
"""Connections that are told one by one; more are counted."""

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
    help="A number of one connection's sequence (42), a time (2026-11-22, 2026-11-22T10:00Z; UTC "
    "where nothing else is said), an age (30m, 2h, 7d), oldest, or snapshot.",
)
@click.option("--connection", "connections", multiple=True, help="Only this one; may be repeated.")
@click.option("--yes", is_flag=True, help="Do not ask; for scripts.")
@as_json
def replay(
    *, sink: str, start: str, connections: tuple[str, ...], yes: bool, as_json: bool
) -> None:
    """Deliver events to SINK again, with the same ids, from some place on.

    Positions move back, never forward: nothing is skipped. A receiver that drops events by their
    sequence has to forget what it remembers first. With snapshot, SINK gets the rows of today as
    'created' events, and then whatever follows them.
    """
    beginning = parsed(start)
    with opened() as (_, database):
        wanted = _target(database, sink, connections)
        if not yes:
            _ask(database, wanted, beginning)
        with database.begin() as db:
            plan = move_back(db, wanted, beginning)
        with database.begin() as db:
            counts = counted(db, wanted, plan)
    if as_json:
        print_json(_facts(wanted, start, plan, counts))
    else:
        _tell(wanted, beginning, plan, counts, "gets")
        if plan.again and wanted.status is not SinkStatus.ACTIVE:
            click.echo(f"it is {wanted.status}; 'tenant-mirror sinks resume {sink}' lets it go on")
    sys.exit(PARTIAL if any(one.refused for one in plan.left) else 0)


def _target(database: Database, name: str, connections: Sequence[str]) -> Target:
    """The sink, and the connections that are meant. Raises Unknown, and Halt where it has none."""
    with database.begin() as db:
        found = target(db, name)
        known = [find(db, named) for named in connections]
    for one in known:
        if found.connections is not None and one.id not in found.connections:
            raise Halt(f"sink '{name}' gets no events of {one.label}")
    return replace(found, only=frozenset(one.id for one in known) or None)


def _ask(database: Database, sink: Target, beginning: Beginning) -> None:
    """Say what would happen. Raises UsageError where there is nobody to ask."""
    with database.begin() as db:
        plan = planned(db, sink, beginning)
        counts = counted(db, sink, plan)
    _tell(sink, beginning, plan, counts, "would get", err=True)
    if not plan.again:
        return
    if not sys.stdin.isatty():
        raise click.UsageError("receivers get it once more; say --yes where nobody can be asked")
    click.confirm(f"Begin anew with sink '{sink.name}' there?", abort=True, err=True)


def _tell(
    sink: Target,
    beginning: Beginning,
    plan: Plan,
    counts: Mapping[int, int],
    verb: str,
    *,
    err: bool = False,
) -> None:
    """What is delivered again in all, and where it begins; those with most events first."""
    click.echo(_summary(sink, beginning, plan, counts, verb), err=err)
    again = sorted(plan.again, key=lambda one: -counts[one.connection_id])
    for one in again[:SHOWN]:
        if isinstance(beginning, Snapshot):
            about = f"its rows of today, then event {one.first:,} and what follows"
        else:
            kept = ", the oldest that is kept" if one.oldest else ""
            about = f"{counts[one.connection_id]:,} events, from {one.first:,}{kept}"
        click.echo(f"  {one.label}: {about}", err=err)
    _count_more(len(again), err=err)
    for left in plan.left[:SHOWN]:
        click.echo(f"  {left.label} is left alone: {left.why}", err=err)
    _count_more(len(plan.left), err=err)


def _count_more(number: int, *, err: bool) -> None:
    if number > SHOWN:
        click.echo(f"  and {number - SHOWN:,} more connections", err=err)


def _summary(
    sink: Target, beginning: Beginning, plan: Plan, counts: Mapping[int, int], verb: str
) -> str:
    of = f"of {len(plan.again):,} connection{'s' if len(plan.again) != 1 else ''}"
    if not plan.again:
        return f"sink '{sink.name}' gets nothing again"
    if isinstance(beginning, Snapshot):
        return f"sink '{sink.name}' {verb} a snapshot {of}"
    return f"sink '{sink.name}' {verb} {sum(counts.values()):,} events again, {of}"


def _facts(sink: Target, start: str, plan: Plan, counts: Mapping[int, int]) -> dict[str, object]:
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
                "oldest_kept": one.oldest,
            }
            for one in plan.again
        ],
        "left_alone": [
            {
                "connection_id": one.connection_id,
                "connection": one.label,
                "why": one.why,
                "refused": one.refused,
            }
            for one in plan.left
        ],
    }
