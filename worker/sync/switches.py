"""Follow the settings before anything is read: resources off and on, properties left out.

One event tells it, in the transaction that makes it true. What is not wanted any more is removed
after that, in fenced batches and without an event for each object: nothing tells it from the event
on. A slice that is killed in between leaves the rest to the next one.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Final

from models.change_event import ConnectionChange
from models.resource import Resource
from models.resources import EDGES_IN
from models.stream import Phase
from worker.core.process.failpoints import hit_failpoint
from worker.events.append import append_connection_event
from worker.store.lease import Transaction
from worker.store.mirror.clear import clear_values, has_rows, remove_rows
from worker.store.mirror.nesting import drop_nesting
from worker.store.state.evidence import forget_evidence
from worker.store.state.streams import Stream, save_stream
from worker.sync.context import SliceContext

OFF_PAUSE: Final = timedelta(days=30)
"""For how long an earlier release, which knows no switch, leaves a stream alone that is off."""

Clear = Callable[[Transaction, tuple[str, ...]], tuple[str, ...] | None]
"""Clears a batch after a key; returns the key to go on after, None at the end."""


def apply_switches(
    context: SliceContext, streams: Mapping[str, Stream]
) -> tuple[dict[str, Stream], bool]:
    """Return the streams as the settings want them, and whether some are still to be cleared."""
    found = {name: _follow_settings(context, stream) for name, stream in streams.items()}
    return found, any(stream.to_clear for stream in found.values())


def _follow_settings(context: SliceContext, stream: Stream) -> Stream:
    while True:
        if stream.to_clear:
            stream = _clear(context, stream)
            if stream.to_clear:
                return stream
        after = _take_step(context, stream)
        if after is stream:
            return stream
        stream = after


def _take_step(context: SliceContext, stream: Stream) -> Stream:
    """Commit one step towards what the settings want; the stream itself if there is none."""
    policy = context.policy
    dropped = policy.list_dropped(stream.resource)
    if stream.name in policy.off:
        done = is_left_alone(stream, context.started_at)
        return stream if done else _switch_off(context, stream)
    if not stream.is_on:
        return _switch_on(context, stream, dropped)
    return stream if dropped == (stream.dropped or []) else _drop(context, stream, dropped)


def is_left_alone(stream: Stream, now: datetime) -> bool:
    """Whether a stream that is off is as it was left: an earlier release has not read it since."""
    untouched = stream.phase is Phase.READY and stream.page_no == 0 and stream.is_initial
    return not stream.is_on and untouched and stream.due_at is not None and stream.due_at > now


def _switch_off(context: SliceContext, stream: Stream) -> Stream:
    resource, moment = stream.resource, context.started_at
    with context.open_transaction() as tx:
        told = [one for one in stream.carried_resources if _was_told(tx, stream, one)]
        since = _tell_switches(context, tx, stream, told, "off")
        forget_evidence(tx, stream.carried_resources)
        for edge in stream.carried_edges:
            drop_nesting(tx, edge)
        after = Stream(
            resource=resource,
            walk_id=stream.walk_id + 1,
            covered_since={n: seq for n, seq in since.items() if _is_marker(resource, n)} or None,
            off_at=stream.off_at or moment,
            to_clear=[_get_marker(one) for one in told] or None,
            checked_seq=stream.checked_seq,
            due_at=moment + OFF_PAUSE,
        )
        save_stream(tx, stream, after)
    hit_failpoint("switched")
    return after


def _switch_on(context: SliceContext, stream: Stream, dropped: list[str]) -> Stream:
    """Begin with a first load, which does not keep the connection in the queue of first loads."""
    moment = context.started_at
    after = replace(
        stream,
        walk_id=stream.walk_id + 1,
        off_at=None,
        dropped=dropped or None,
        due_at=moment,
        first_due_at=moment,
    )
    with context.open_transaction() as tx:
        _tell_switches(context, tx, after, after.carried_resources, "on")
        save_stream(tx, stream, after)
    hit_failpoint("switched")
    return after


def _drop(context: SliceContext, stream: Stream, dropped: list[str]) -> Stream:
    """Leave out other properties or edges than before; a walk brings what is wanted again."""
    resource = stream.resource
    gone, back = _differ(dropped, stream.dropped), _differ(stream.dropped, dropped)
    after = replace(stream, dropped=dropped or None)
    with context.open_transaction() as tx:
        if _was_told(tx, stream, resource):
            columns = _list_columns(resource, gone, stream.walked_columns)
            if columns and resource.has_events:
                _append_event(context, tx, resource, columns, None)
            left, right = _list_edges(resource, gone), _list_edges(resource, back)
            since = _tell_switches(context, tx, stream, left, "off")
            _tell_switches(context, tx, stream, right, "on")
            unread = {*columns, *gone}
            walked = stream.walked_columns or stream.current_columns
            after = replace(
                after,
                walked_columns=[name for name in walked if name not in unread],
                covered_since={n: seq for n, seq in since.items() if n not in columns} or None,
                to_clear=[*columns, *(edge.relation for edge in left)] or None,
            )
            forget_evidence(tx, left)
            for edge in left:
                drop_nesting(tx, edge)
        if (gone | back) - {*resource.relations} and stream.phase is not Phase.REFUSED:
            # The walk replaces the cursor, which is bound to the properties of before.
            after = replace(after, due_at=context.started_at, full_due_at=context.started_at)
        save_stream(tx, stream, after)
    hit_failpoint("switched")
    return after


def _differ(some: Sequence[str] | None, others: Sequence[str] | None) -> set[str]:
    return set(some or ()) - set(others or ())


def _list_columns(
    resource: Resource, properties: set[str], walked: Sequence[str] | None
) -> list[str]:
    """Return the columns of these properties that events have told."""
    bits = resource.columns_of(properties) if properties else 0
    names = [name for i, name in enumerate(resource.column_names) if bits >> i & 1]
    return names if walked is None else [name for name in names if name in walked]


def _list_edges(resource: Resource, relations: set[str]) -> list[Resource]:
    return [edge for edge in EDGES_IN[resource.name] if edge.relation in relations]


def _was_told(tx: Transaction, stream: Stream, resource: Resource) -> bool:
    """Whether events have told of a resource: it was read, or a first load has begun."""
    return not stream.is_initial or has_rows(tx, resource)


def _tell_switches(
    context: SliceContext, tx: Transaction, stream: Stream, told: Sequence[Resource], state: str
) -> dict[str, int]:
    """Append an event for each resource; return since when events tell, with those that are off.

    What an event tells whose number is not above that of the last ``off`` is gone.
    """
    since = dict(stream.covered_since or {})
    for resource in reversed(told):  # edges before the objects that they connect
        if not resource.has_events:
            continue
        _append_event(context, tx, resource, [], state)
        if state == "off":
            since[_get_marker(resource)] = tx.seq
    return since


def _append_event(
    context: SliceContext,
    tx: Transaction,
    resource: Resource,
    dropped: list[str],
    state: str | None,
) -> None:
    about: dict[str, object] = {
        "resource": resource.name,
        "added": [],
        "dropped": dropped,
        "state": state,
    }
    append_connection_event(tx, ConnectionChange.COVERAGE_CHANGED, about, run_id=context.run.id)


def _get_marker(resource: Resource) -> str:
    """Return what stands for all rows of a resource among the columns of its stream."""
    return resource.relation or resource.key[0]


def _is_marker(resource: Resource, name: str) -> bool:
    return name in (resource.key[0], *resource.relations)


def _clear(context: SliceContext, stream: Stream) -> Stream:
    """Remove rows and values, as far as the slice gets: at least one batch."""
    for work in _plan_clearing(stream):
        key: tuple[str, ...] | None = ()
        while key is not None:
            with context.open_transaction() as tx:
                key = work(tx, key)
            hit_failpoint("cleared-batch")
            if context.should_stop() and key is not None:
                return stream
    after = replace(stream, to_clear=None)
    with context.open_transaction() as tx:
        save_stream(tx, stream, after)
    return after


def _plan_clearing(stream: Stream) -> list[Clear]:
    resource, markers = stream.resource, set(stream.to_clear or ())
    work: list[Clear] = [_remove(edge) for edge in _list_edges(resource, markers)]
    if resource.key[0] in markers:
        return [*work, _remove(resource)]
    names = tuple(name for name in resource.column_names if name in markers)
    if names:
        work.append(lambda tx, after: clear_values(tx, resource, names, after))
    return work


def _remove(resource: Resource) -> Clear:
    return lambda tx, after: remove_rows(tx, resource, after)
