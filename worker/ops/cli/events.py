"""The commands of the group ``events``."""

import signal
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from itertools import chain, islice

import click

from worker.core.printable import escape_json_line
from worker.events.envelope import EnvelopeBuilder
from worker.events.filter import EventFilter, parse_change_filter, parse_resource_filter
from worker.events.object_names import describe_object
from worker.events.resolve_start import ResolvedStart, resolve_time
from worker.events.start import (
    FromSequence,
    FromSnapshot,
    StartPosition,
    parse_moment,
    parse_start_position,
)
from worker.events.tail import Tail, TailedEvent
from worker.ops.cli.output import json_option, open_checked_database, print_line
from worker.ops.cli.replay import replay
from worker.ops.event_line import render_event_line
from worker.ops.follow import follow_events
from worker.ops.stdout import StdoutWriter
from worker.store.state.connections import find_connection

DEFAULT_LAST = 20
NAME_WIDTH = 20

_EXAMPLES = """\b
Examples:
  tenant-mirror events tail
  tenant-mirror events tail --follow --resource users --change deleted
  tenant-mirror events tail --connection contoso --from 42 --limit 10
  tenant-mirror events tail --from 2026-11-22T10:00Z --json | jq .subject
  tenant-mirror events tail --from 2d --until 1d --no-initial
  tenant-mirror events tail --follow --last 0 --json >> changes.jsonl
"""


@click.group()
def events() -> None:
    """Show change events, or deliver them again.

    They are kept for TENANT_MIRROR_EVENTS_DAYS, in one numbered sequence for each connection.
    """


events.add_command(replay)


@events.command(epilog=_EXAMPLES)
@click.option("--follow", "-f", is_flag=True, help="Keep printing new events until Ctrl-C.")
@click.option(
    "--connection", "connections", multiple=True, help="Only this connection; may be repeated."
)
@click.option("--resource", "resources", multiple=True, help="Only this resource; may be repeated.")
@click.option("--change", "changes", multiple=True, help="Only this change; may be repeated.")
@click.option(
    "--from",
    "start",
    metavar="SEQ|TIME|AGE|oldest",
    help="A sequence number of one connection (42), a time (2026-11-22, 2026-11-22T10:00Z; UTC "
    "unless it has an offset), an age (30m, 2h, 7d), or oldest.",
)
@click.option(
    "--last",
    type=click.IntRange(0, 100_000),
    help=f"Start with this many existing events.  [default: {DEFAULT_LAST}]",
)
@click.option("--limit", type=click.IntRange(1), help="Stop after this many events.")
@click.option("--no-initial", is_flag=True, help="Leave out the events of first loads.")
@click.option(
    "--until", metavar="TIME|AGE", help="Leave out events from then on; written as in --from."
)
@json_option
def tail(
    *,
    follow: bool,
    connections: tuple[str, ...],
    resources: tuple[str, ...],
    changes: tuple[str, ...],
    start: str | None,
    last: int | None,
    limit: int | None,
    no_initial: bool,
    until: str | None,
    as_json: bool,
) -> None:
    """Print change events from the table, one per line.

    No sink is needed. The events are in order of time; the events of a connection are always in
    sequence. With --json, each line is the CloudEvents envelope that a sink gets.
    """
    if follow and until is not None:
        raise click.UsageError("use either --follow or --until")
    beginning = _parse_start(start, last)
    end = None if until is None else parse_moment(until, "--until")
    with _open_outlet(follow=follow) as outlet, open_checked_database() as (settings, database):
        with database.open_transaction() as db:
            only = frozenset(find_connection(db, named).id for named in connections) or None
            end_time = None if end is None else resolve_time(db, end)
        wanted = EventFilter(
            only,
            parse_resource_filter(resources),
            parse_change_filter(changes),
            with_initial=not no_initial,
            until=end_time,
        )
        seen = Tail(database, wanted, with_names=not as_json)
        told = _start_tail(seen, beginning, DEFAULT_LAST if last is None else last)
        if follow:
            told = chain(told, follow_events(seen, outlet.wait, _print_notice))
        elif beginning is not None:
            told = chain(told, seen.read_new())
        write = (
            _build_envelope_writer(outlet, settings.event_prefix)
            if as_json
            else _build_line_writer(outlet)
        )
        number = 0
        for number, one in enumerate(islice(told, limit), 1):  # noqa: B007 - how many there were
            write(one)
        outlet.flush()
        if not number and not as_json:
            _print_notice("no event matches")


def _parse_start(start: str | None, last: int | None) -> StartPosition | None:
    """Parse where to start. Raises ConfigurationError or UsageError if that is invalid."""
    if start is None:
        return None
    if last is not None:
        raise click.UsageError("use either --from or --last")
    beginning = parse_start_position(start)
    if isinstance(beginning, FromSnapshot):
        raise click.UsageError(
            "only sinks can start with a snapshot; 'oldest' prints all retained events"
        )
    return beginning


def _start_tail(seen: Tail, start: StartPosition | None, last: int) -> Iterable[TailedEvent]:
    if start is None:
        return seen.read_last(last)
    found = seen.seek(start)
    if isinstance(start, FromSequence):
        for reach in found:
            _explain_start(start.seq, reach)
    return ()


def _explain_start(wanted: int, reach: ResolvedStart) -> None:
    """Print why the output does not start at the requested place."""
    if wanted > reach.last:
        _print_notice(f"event {wanted:,} does not exist yet; the last is {reach.last:,}")
    elif wanted < reach.oldest:
        _print_notice(
            f"events before {reach.oldest:,} are no longer retained; the output starts there"
        )


def _print_notice(line: str) -> None:
    print_line(f"tenant-mirror: {line}", err=True)


def _build_line_writer(outlet: StdoutWriter) -> Callable[[TailedEvent], None]:
    def write(seen: TailedEvent) -> None:
        told = seen.event
        outlet.write_text(
            render_event_line(
                f"{told.occurred_at:%Y-%m-%d %H:%M:%S}",
                f"{seen.source.name:<{NAME_WIDTH}} {told.seq:>8}",
                told.resource,
                told.change,
                describe_object(told, seen.names),
                changed=told.changed,
            )
        )

    return write


def _build_envelope_writer(outlet: StdoutWriter, prefix: str) -> Callable[[TailedEvent], None]:
    made: dict[tuple[int, str | None, str], Callable[..., bytes]] = {}

    def write(seen: TailedEvent) -> None:
        key = (seen.source.id, seen.source.tenant_id, seen.source.epoch)
        if key not in made:
            made[key] = EnvelopeBuilder(prefix, *key).build
        outlet.write_text(escape_json_line(made[key](seen.event).decode()))

    return write


@contextmanager
def _open_outlet(*, follow: bool) -> Iterator[StdoutWriter]:
    """Open stdout for lines. Ctrl-C ends following; the reader of a pipe may leave at any time."""
    outlet = StdoutWriter()
    if follow:
        signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        try:
            yield outlet
        except KeyboardInterrupt:
            outlet.flush()
            if not follow:
                raise
    except BrokenPipeError:
        outlet.discard()
