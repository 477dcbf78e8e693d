"""Apply the removals that a complete round announced, or hold them for an operator."""

from collections.abc import Iterator
from dataclasses import replace

from models.resource import Resource
from models.stream import Phase
from worker.core.process.failpoints import hit_failpoint
from worker.store.lease import Transaction
from worker.store.mirror.cascade import BatchedDeletion
from worker.store.mirror.deletions import count_live_rows
from worker.store.mirror.hidden_membership import count_held_hidden, hold_emptying_removals
from worker.store.state.streams import Stream, save_stream
from worker.store.sweep.removals import (
    DELETION_BATCH,
    count_live_removals,
    hold_removals,
    list_removals,
    withdraw_removals,
)
from worker.sync.context import SliceContext
from worker.sync.guard import check_deletion, explain_hidden_members


def apply_round_removals(context: SliceContext, stream: Stream) -> Stream:
    """Apply the removals that a complete round announced, or hold them; return the stream.

    If the slice ends before all are applied, the stream is added to ``context.unfinished_streams``;
    the rest stays in ``sync.removals``, and the next slice applies it first.
    """
    with context.open_transaction() as tx:
        held = [
            f"{resource.name}: {why}"
            for resource in stream.carried_resources
            for why in _hold_implausible(context, tx, resource)
        ]
        if held:
            reason = f"waits for approval: {'; '.join(held)}"
            after = replace(stream, phase=Phase.HELD, reason=reason)
            save_stream(tx, stream, after)
            stream = after
    for resource in stream.carried_resources:
        if not _delete_removed(context, resource, initial=stream.is_initial):
            context.unfinished_streams.add(stream.name)
            break
    return stream


def _hold_implausible(context: SliceContext, tx: Transaction, resource: Resource) -> Iterator[str]:
    """Hold implausible removals and yield the reasons; the others may be applied."""
    if hold_emptying_removals(tx, resource):
        yield explain_hidden_members(resource.parent, *count_held_hidden(tx, resource))
    going = count_live_removals(tx, resource)
    # Counting a large table takes longer than the rest of a quiet round.
    live = count_live_rows(tx, resource) if going else 0
    why = check_deletion(context.policy, deleted=going, live_rows=live)
    if why is not None:
        hold_removals(tx, resource)
        yield why


def _delete_removed(context: SliceContext, resource: Resource, *, initial: bool) -> bool:
    """Apply removals in fenced batches; return whether none is left."""
    deletion, more, after = BatchedDeletion(resource), True, ""
    while more:
        with context.open_transaction() as tx:
            reasons = list_removals(tx, resource, after=after)
            changes, done = deletion.advance(tx, reasons)
            context.append_all_events(tx, changes, initial=initial)
            if done:
                withdraw_removals(tx, resource, list(reasons))
        hit_failpoint("removals-batch")
        more = not done or len(reasons) == DELETION_BATCH
        after = list(reasons)[-1] if done and reasons else after
        if more and context.should_stop():
            return False
    return True
