"""Sweep: delete the rows that a complete walk did not see, after they were judged and confirmed.

Deletes in fenced batches, each with its events; holds for an operator are written in batches, too.
An interrupted sweep is judged again by the next slice, and continues with the rows still live.
"""

import time
from collections.abc import Callable
from dataclasses import asdict

from models.change_event import ConnectionChange
from models.closure import NESTED_EDGES
from models.resource import Resource
from models.resources import RESOURCES
from models.stream import Nesting
from models.unresolved import Part, PartKind
from worker.core.process.failpoints import hit_failpoint
from worker.events.append import append_connection_event
from worker.store.lease import Transaction
from worker.store.mirror.cascade import BatchedDeletion
from worker.store.mirror.hidden_membership import count_held_hidden
from worker.store.mirror.nesting import compute_nesting
from worker.store.mirror.samples import take_samples
from worker.store.state.domains import note_domains
from worker.store.state.runs import note_full_walks
from worker.store.state.streams import Stream, save_stream
from worker.store.state.unresolved import WHOLE_RESOURCE, resolve_parts
from worker.store.sweep.candidates import (
    drop_candidates,
    drop_candidates_of,
    drop_judged_removals,
    drop_unasked_candidates,
    hold_hidden_candidates,
    hold_unseen_candidates,
    list_candidates,
    mark_found,
)
from worker.store.sweep.removals import (
    DELETION_BATCH,
    drop_removals,
    hold_removals,
    withdraw_removals,
)
from worker.store.sweep.seen import delete_seen
from worker.store.sweep.staging import NO_WALK, STAGING_BATCH, clear_candidates
from worker.sync.advance import end_walk
from worker.sync.context import SliceContext
from worker.sync.coverage import find_coverage_change, note_coverage_change
from worker.sync.finish.candidates import (
    SweepCandidates,
    append_and_count,
    choose_batch_to_confirm,
    is_sweep_time_up,
)
from worker.sync.finish.keep import Confirmation, KeptCandidates, decide_kept
from worker.sync.guard import explain_hidden_members
from worker.sync.plan import MAX_RESTARTS
from worker.sync.state import is_resync


def apply_sweep(
    context: SliceContext, candidates: SweepCandidates, confirmation: Confirmation
) -> bool:
    """Delete candidates in fenced batches and end the walk; return whether it has ended.

    Candidates that Graph gave no answer for are recorded as unresolved. If the walk has not ended,
    either more must be read by id (``found.keys_to_confirm``), or the stream is in
    ``context.unfinished_streams`` and the next slice judges the rest again. Raises CursorExpired,
    with nothing deleted, if a read by id found an object that the walk missed.
    """
    stream, since = candidates.stream, time.monotonic()
    every = bool(stream.source.best_effort)
    last = stream.restarts >= MAX_RESTARTS
    spared = decide_kept(
        candidates.delete_counts, confirmation, is_last_attempt=last, is_best_effort=every
    )
    _keep_candidates(context, candidates, spared)
    for name in candidates.delete_counts:
        resource, upto = RESOURCES[name], None
        if every and candidates.keys_to_confirm.get(name):
            upto = candidates.keys_to_confirm[name][-1]
        if not _delete_candidates(context, candidates, resource, upto, since):
            context.unfinished_streams.add(stream.name)
            return False
        if upto is not None:
            with context.open_transaction() as tx:
                choose_batch_to_confirm(tx, candidates, resource)
            return False
    for name in candidates.hold_reasons:
        _hold_candidates(context, RESOURCES[name], hold_unseen_candidates)
    for edge in _list_edges_with_hidden(candidates):
        _hold_candidates(context, edge, hold_hidden_candidates)
    _finish_walk(context, candidates, spared)
    return True


def _keep_candidates(
    context: SliceContext, candidates: SweepCandidates, spared: KeptCandidates
) -> None:
    """Drop the candidates that stay, and record the unanswered parts."""
    if not spared.has_any:
        return
    with context.open_transaction() as tx:
        for name in candidates.delete_counts:
            resource = RESOURCES[name]
            apart = {part.key for part in spared.unanswered if part.resource == name}
            drop_candidates(tx, resource, spared.kept_keys[name] & apart)
            mark_found(tx, resource, spared.kept_keys[name] - apart)
            if resource.is_edge:
                drop_candidates_of(tx, resource, spared.kept_parents.get(name, ()))
            if name in spared.weak_resources:
                asked = candidates.keys_to_confirm.get(name, [])
                spared.add_unasked(name, drop_unasked_candidates(tx, resource, asked))
        context.save_unresolved(tx, spared.unanswered)


def _delete_candidates(
    context: SliceContext,
    candidates: SweepCandidates,
    resource: Resource,
    last_key: str | None,
    started_monotonic: float,
) -> bool:
    """Delete the candidates up to a key, or all; return False if the slice ends before."""
    deletion, more, after = BatchedDeletion(resource), True, ""
    while more:
        with context.open_transaction() as tx:
            some = list_candidates(tx, resource, after=after, up_to=last_key, limit=DELETION_BATCH)
            deleted, done = deletion.advance(tx, some)
            stream = candidates.stream
            for of, changes in deleted:
                stream = append_and_count(context, tx, stream, of, changes)
            if done:
                withdraw_removals(tx, resource, list(some))
                drop_candidates(tx, resource, some)
        candidates.stream = stream
        hit_failpoint("sweep-batch")
        more = not done or len(some) == DELETION_BATCH
        after = list(some)[-1] if done and some else after
        if more and is_sweep_time_up(context, candidates, started_monotonic):
            return False
    return True


def _hold_candidates(
    context: SliceContext,
    resource: Resource,
    hold: Callable[[Transaction, Resource, str, int], str | None],
) -> None:
    """Hold candidates for an operator, a batch in each transaction."""
    after: str | None = ""
    while after is not None:
        with context.open_transaction() as tx:
            after = hold(tx, resource, after, STAGING_BATCH)


def _list_edges_with_hidden(candidates: SweepCandidates) -> list[Resource]:
    """Return the edges of which Graph hides some, so that their absence proves nothing."""
    return [of for of in candidates.stream.carried_edges if of.name in candidates.hiding_edges]


def _finish_walk(
    context: SliceContext, candidates: SweepCandidates, spared: KeptCandidates
) -> None:
    stream = candidates.stream
    with context.open_transaction() as tx:
        for resource in stream.carried_resources:
            if resource.name not in candidates.empty_resources:
                _finish_removals(tx, candidates, resource)
            more = Part(resource.name, PartKind.DELETIONS, WHOLE_RESOURCE)
            if context.has_unresolved and more not in spared.unanswered:
                resolve_parts(tx, [more])
        for edge in _list_edges_with_hidden(candidates):
            why = candidates.hold_reasons.get(edge.name)
            whys = [why, explain_hidden_members(edge.parent, *count_held_hidden(tx, edge))]
            candidates.hold_reasons[edge.name] = "; ".join(filter(None, whys))
        delete_seen(tx, stream.carried_resources)
        note_domains(tx, stream.resource)
        take_samples(tx, stream.resource)
        after = end_walk(
            stream,
            context.started_at,
            context.policy,
            context.jitter,
            hold_reasons=candidates.hold_reasons,
            needs_walk=spared.has_unlisted or spared.needs_walk,
        )
        after = _tell_coverage(context, tx, stream, after)
        save_stream(tx, stream, after)
        _compute_nesting(context, tx, stream)
        if is_resync(stream, after):
            note_full_walks(tx, context.run, [of.name for of in stream.carried_resources])
        staged = [
            of for of in stream.carried_resources if of.name not in candidates.empty_resources
        ]
        left = [of for of in staged if not _clear_some_candidates(tx, of)]
    context.tally.walked.append(stream.name)
    candidates.stream = after
    for resource in left:
        _clear_candidates(context, resource)


def _compute_nesting(context: SliceContext, tx: Transaction, stream: Stream) -> None:
    """Compute closures that are not known yet, and those that a person wants computed anew.

    The writer keeps the others: to compare all pairs would cost a walk without changes too much.
    """
    is_known = stream.nesting is Nesting.COMPLETE and not context.request.full
    if stream.incomplete or is_known:
        return
    for edge in NESTED_EDGES:
        if edge in stream.carried_edges:
            compute_nesting(tx, edge)


def _tell_coverage(context: SliceContext, tx: Transaction, before: Stream, after: Stream) -> Stream:
    """Append the event that the walk has brought other columns than the one before, if it has."""
    change = find_coverage_change(before, after)
    if change is None:
        return after
    about: dict[str, object] = {"resource": after.name, **asdict(change), "state": None}
    append_connection_event(tx, ConnectionChange.COVERAGE_CHANGED, about, run_id=context.run.id)
    return note_coverage_change(after, change, tx.seq)


def _finish_removals(tx: Transaction, candidates: SweepCandidates, resource: Resource) -> None:
    """Drop the removals that waited for the end of the walk, except those that are held."""
    if resource.name in candidates.hold_reasons:
        hold_removals(tx, resource)
    elif resource.name in candidates.hiding_edges:
        drop_judged_removals(tx, resource)
    else:
        drop_removals(tx, resource)


def _clear_some_candidates(tx: Transaction, resource: Resource) -> bool:
    return clear_candidates(tx, resource, NO_WALK, STAGING_BATCH) < STAGING_BATCH


def _clear_candidates(context: SliceContext, resource: Resource) -> None:
    done = False
    while not done:
        with context.open_transaction() as tx:
            done = _clear_some_candidates(tx, resource)
