"""Commands about the change events themselves: look at them, deliver them once more."""

import signal
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from itertools import chain, islice

import click

from worker.core.beginning import Beginning, Numbered, Snapshot, parsed
from worker.events import sink_settings as check
from worker.events.envelope import Envelopes
from worker.events.naming import called
from worker.events.tail import Seen, Tail, Wanted
from worker.ops.cli.output import as_json, opened
from worker.ops.cli.replay import replay
from worker.ops.following import followed
from worker.ops.outlet import Outlet
from worker.ops.spelling import event_line
from worker.store.connections import find
from worker.store.sequence import Reach

LAST = 20
WIDTH = 20

_EXAMPLES = """\b
Examples:
  tenant-mirror events tail
  tenant-mirror events tail --follow --resource users --change deleted
  tenant-mirror events tail --connection contoso --from 42 --limit 10
  tenant-mirror events tail --from 2026-11-22T10:00Z --json | jq .subject
  tenant-mirror events tail --follow --last 0 --json >> changes.jsonl
"""


@click.group()
def events() -> None:
    """Look at change events, and have them delivered once more.

    They are kept for TENANT_MIRROR_EVENTS_DAYS, in one numbered sequence for each connection.
    """


events.add_command(replay)


@events.command(epilog=_EXAMPLES)
@click.option("--follow", "-f", is_flag=True, help="Go on with what comes, until Ctrl-C.")
@click.option("--connection", "connections", multiple=True, help="Only this one; may be repeated.")
@click.option("--resource", "resources", multiple=True, help="Only this one; may be repeated.")
@click.option("--change", "changes", multiple=True, help="Only this one; may be repeated.")
@click.option(
    "--from",
    "start",
    metavar="SEQ|TIME|AGE|oldest",
    help="A number of one connection's sequence (42), a time (2026-11-22, 2026-11-22T10:00Z; UTC "
    "where nothing else is said), an age (30m, 2h, 7d), or oldest.",
)
@click.option(
    "--last",
    type=click.IntRange(0, 100_000),
    help=f"So many that there are already.  [default: {LAST}]",
)
@click.option("--limit", type=click.IntRange(1), help="End after so many.")
@as_json
def tail(
    *,
    follow: bool,
    connections: tuple[str, ...],
    resources: tuple[str, ...],
    changes: tuple[str, ...],
    start: str | None,
    last: int | None,
    limit: int | None,
    as_json: bool,
) -> None:
    """Print change events from the table, a line each; no sink is needed.

    In the order of time; a connection's events always in their own order. With --json, each line
    is the CloudEvents envelope that a sink gets.
    """
    beginning = _beginning(start, last)
    with _ended_quietly(follow=follow) as outlet, opened() as (settings, database):
        with database.begin() as db:
            only = frozenset(find(db, named).id for named in connections) or None
        wanted = Wanted(only, check.resource_filter(resources), check.change_filter(changes))
        seen = Tail(database, wanted, named=not as_json)
        told = _begun(seen, beginning, LAST if last is None else last)
        if follow:
            told = chain(told, followed(seen, outlet.rest, _say))
        elif beginning is not None:
            told = chain(told, seen.news())
        write = _as_envelope(outlet, settings.event_prefix) if as_json else _as_line(outlet)
        number = 0
        for number, one in enumerate(islice(told, limit), 1):  # noqa: B007 - how many there were
            write(one)
        outlet.flush()
        if not number and not as_json:
            _say("there is no such event")


def _beginning(start: str | None, last: int | None) -> Beginning | None:
    """Raises Halt or UsageError for what makes no sense."""
    if start is None:
        return None
    if last is not None:
        raise click.UsageError("--from and --last are two ways to begin; say one of them")
    beginning = parsed(start)
    if isinstance(beginning, Snapshot):
        raise click.UsageError("only sinks begin with a snapshot; 'oldest' tells all that is kept")
    return beginning


def _begun(seen: Tail, beginning: Beginning | None, last: int) -> Iterable[Seen]:
    if beginning is None:
        return seen.last(last)
    found = seen.begin(beginning)
    if isinstance(beginning, Numbered):
        for reach in found:
            _explain(beginning.seq, reach)
    return ()


def _explain(wanted: int, reach: Reach) -> None:
    """Why it does not begin where it was asked to."""
    if wanted > reach.last:
        _say(f"event {wanted:,} is still to come; the last is {reach.last:,}")
    elif wanted < reach.oldest:
        _say(f"events before {reach.oldest:,} are not kept any more; it begins there")


def _say(line: str) -> None:
    click.echo(f"tenant-mirror: {line}", err=True)


def _as_line(outlet: Outlet) -> Callable[[Seen], None]:
    def write(seen: Seen) -> None:
        told = seen.told
        outlet.say(
            event_line(
                f"{told.occurred_at:%Y-%m-%d %H:%M:%S}",
                f"{seen.owner.name:<{WIDTH}} {told.seq:>8}",
                told.resource,
                told.change,
                called(told, seen.names),
                changed=told.changed,
            )
        )

    return write


def _as_envelope(outlet: Outlet, prefix: str) -> Callable[[Seen], None]:
    made: dict[tuple[int, str | None, str], Callable[..., bytes]] = {}

    def write(seen: Seen) -> None:
        key = (seen.owner.id, seen.owner.tenant_id, seen.owner.epoch)
        if key not in made:
            made[key] = Envelopes(prefix, *key).one
        outlet.write(made[key](seen.told))

    return write


@contextmanager
def _ended_quietly(*, follow: bool) -> Iterator[Outlet]:
    """Where lines go. Who is following ends by Ctrl-C; who reads a pipe may leave at any time."""
    outlet = Outlet()
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
        outlet.abandon()
