"""Settling: what a complete round announced is applied, or held for an operator."""

from collections.abc import Iterator
from dataclasses import replace

from models.resource import Kind, Resource
from models.stream import Phase
from worker.core.crash import crash_point
from worker.store.cascade import Deletion
from worker.store.deletions import (
    BATCH,
    count_live_removals,
    hold_removals,
    live_count,
    some_removals,
    withdraw_removals,
)
from worker.store.hidden import held_hidden, hold_emptied
from worker.store.lease import Transaction
from worker.store.streams import Stream, save_stream
from worker.sync.guard import hidden_away, implausible
from worker.sync.session import Session


def settle_round(session: Session, stream: Stream) -> Stream:
    """Apply what a complete round announced, or hold it; the stream as it then stands.

    Where the slice is to end before all is applied, the stream is noted in ``session.cut_short``;
    the rest waits in ``sync.removals``, and the next slice settles it first.
    """
    with session.writing() as tx:
        held = [
            f"{resource.name}: {why}"
            for resource in stream.carries
            for why in _held_back(session, tx, resource)
        ]
        if held:
            reason = f"waits for approval: {'; '.join(held)}"
            after = replace(stream, phase=Phase.HELD, reason=reason)
            save_stream(tx, stream, after)
            stream = after
    for resource in stream.carries:
        if not _settle(session, resource, initial=stream.initial):
            session.cut_short.add(stream.name)
            break
    return stream


def _held_back(session: Session, tx: Transaction, resource: Resource) -> Iterator[str]:
    """Hold what is not to be believed, saying why; the rest may go."""
    if resource.kind is Kind.EDGE and hold_emptied(tx):
        yield hidden_away(*held_hidden(tx))
    going = count_live_removals(tx, resource)
    # To count a large table takes longer than all else that a quiet round does.
    live = live_count(tx, resource) if going else 0
    why = implausible(session.policy, going=going, live=live)
    if why is not None:
        hold_removals(tx, resource)
        yield why


def _settle(session: Session, resource: Resource, *, initial: bool) -> bool:
    """Apply removals in fenced batches; whether none is left."""
    deletion, more, after = Deletion(resource), True, ""
    while more:
        with session.writing() as tx:
            reasons = some_removals(tx, resource, after=after)
            changes, done = deletion.advance(tx, reasons)
            session.record_all(tx, changes, initial=initial)
            if done:
                withdraw_removals(tx, resource, list(reasons))
        crash_point("removals-batch")
        more = not done or len(reasons) == BATCH
        after = list(reasons)[-1] if done and reasons else after
        if more and session.gives_way():
            return False
    return True
