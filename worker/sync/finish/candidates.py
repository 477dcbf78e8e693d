"""Judge the rows that a complete walk did not see: which to delete, which to read by id first.

Nothing is deleted on weak evidence. A sweep needs a ``Complete``, which only the committed end of a
walk gives. An implausible total is held for an operator, and so are the last memberships of groups
whose members may only be hidden. The candidates themselves are in ``sync.candidates``; this module
holds their counts, and the keys of those to be read by id.
"""

import time
from dataclasses import dataclass, field
from typing import Final

from models.resource import Resource
from models.stream import Phase
from worker.core.process.shutdown import is_stopping
from worker.store.lease import Transaction
from worker.store.mirror.change import Change
from worker.store.mirror.deletions import count_live_rows
from worker.store.state.streams import Stream, save_stream
from worker.store.state.unresolved import resolve_assignments
from worker.store.sweep.candidates import (
    list_unconfirmed,
    list_unconfirmed_at,
    withdraw_unanswered_removals,
)
from worker.store.sweep.removals import DELETION_BATCH, count_live_removals
from worker.store.sweep.seen import count_seen, null_unsent_columns
from worker.store.sweep.staging import NO_CANDIDATES, KeptApart, Staging, count_candidates
from worker.sync.context import SliceContext
from worker.sync.guard import check_deletion, sample
from worker.sync.sources.by_id import Address, load_addresses
from worker.sync.state import add_drift

CONFIRM_BATCH: Final = 500
"""Objects read by id at a time if all of them have to be."""


@dataclass(frozen=True)
class Complete:
    """Proof that a walk reached its end: nothing is swept without one."""

    walk_id: int
    is_best_effort: bool

    @classmethod
    def from_stream(cls, stream: Stream) -> "Complete":
        """Return the proof of a committed end. Raises ValueError if the walk skipped objects."""
        if stream.phase is not Phase.SWEEPING or stream.incomplete:
            raise ValueError("the walk is not complete")
        return cls(stream.walk_id, is_best_effort=bool(stream.source.best_effort))


@dataclass
class SweepCandidates:
    """The rows that a sweep would delete, hold for approval, or read by id.

    ``stream`` is the stream after the columns that no page sent have been cleared.
    """

    stream: Stream
    started_monotonic: float = field(default_factory=time.monotonic)
    delete_counts: dict[str, int] = field(default_factory=dict)
    """Rows to be deleted, by resource."""
    hold_reasons: dict[str, str] = field(default_factory=dict)
    """Why the candidates of a resource wait for approval."""
    empty_resources: set[str] = field(default_factory=set)
    """Resources with no candidates and no removals: nothing of them has to be cleared."""
    hiding_edges: set[str] = field(default_factory=set)
    """Names of the edges of which last ones of parents with hidden members are held."""
    keys_to_confirm: dict[str, list[str]] = field(default_factory=dict)
    doubtful_counts: dict[str, int] = field(default_factory=dict)
    """How many candidates of each resource ``keys_to_confirm`` samples."""
    addresses: dict[str, Address] = field(default_factory=dict)

    @property
    def delete_total(self) -> int:
        return sum(self.delete_counts.values())


def prepare_sweep(context: SliceContext, stream: Stream) -> SweepCandidates | None:
    """Clear the columns that no page sent, then find and judge the rows the walk did not see.

    None if the slice ends meanwhile: the next slice starts over.
    """
    candidates = SweepCandidates(stream)
    if stream.incomplete:
        return candidates if _clear_unsent(context, candidates) else None
    complete, is_cleared = Complete.from_stream(stream), False
    for resource in stream.carried_resources:
        if context.has_unresolved:
            with context.open_transaction() as tx:
                _withdraw_unanswered(tx, candidates.stream, resource)
        staging, done = _build_staging(context, resource, complete), False
        while not done:
            with context.open_transaction() as tx:
                # Mostly there is nothing to clear, and this transaction goes on.
                cleared = 0 if is_cleared else _clear_some_unsent(context, tx, candidates)
                done = not cleared and staging.advance(tx)
                if done:
                    _judge_resource(context, tx, candidates, staging, complete)
            is_cleared = cleared < DELETION_BATCH
            if not done and (is_stopping() if is_cleared else context.should_stop()):
                return None
    return candidates


def _build_staging(context: SliceContext, resource: Resource, complete: Complete) -> Staging:
    kept_apart = KeptApart(
        quarantined=context.has_quarantined.get(resource.parent or resource.name, True),
        unresolved=context.has_unresolved,
        erasing=bool(context.erased),
    )
    return Staging(resource, complete.walk_id, kept_apart=kept_apart)


def _withdraw_unanswered(tx: Transaction, stream: Stream, resource: Resource) -> None:
    """Withdraw removals of rows that were only not seen because Graph gave no answer."""
    if stream.resource.partition and not stream.source.below:
        resolve_assignments(tx, stream.resource.partitioned_by, stream.parts or [])
    withdraw_unanswered_removals(tx, resource)


def _judge_resource(
    context: SliceContext,
    tx: Transaction,
    candidates: SweepCandidates,
    staging: Staging,
    complete: Complete,
) -> None:
    """Count the deletions of one resource, or hold them if they are implausible."""
    resource = staging.resource
    if staging.is_empty:
        candidates.empty_resources.add(resource.name)
        return
    numbers = count_candidates(tx, resource) if staging.has_candidates else NO_CANDIDATES
    if numbers.hidden:
        candidates.hiding_edges.add(resource.name)
    explained = count_live_removals(tx, resource) - numbers.announced_hidden
    going = numbers.unexplained + explained
    empty = numbers.unexplained > 0 and not complete.is_best_effort
    empty = empty and count_seen(tx, resource, complete.walk_id) == 0
    live = count_live_rows(tx, resource) if going else 0
    why = check_deletion(context.policy, deleted=going, live_rows=live, is_empty_answer=empty)
    if why is not None:
        candidates.hold_reasons[resource.name] = why
    elif numbers.to_delete:
        candidates.delete_counts[resource.name] = numbers.to_delete
        if complete.is_best_effort:
            choose_batch_to_confirm(tx, candidates, resource)
        elif numbers.unconfirmed:
            places = list(sample(range(numbers.unconfirmed)))
            _set_to_confirm(
                tx,
                candidates,
                resource,
                list_unconfirmed_at(tx, resource, places),
                numbers.unconfirmed,
            )


def choose_batch_to_confirm(
    tx: Transaction, candidates: SweepCandidates, resource: Resource
) -> bool:
    """Choose the next batch to read by id; return whether there is one."""
    keys = list_unconfirmed(tx, resource, CONFIRM_BATCH)
    if not keys:
        candidates.keys_to_confirm.pop(resource.name, None)
        return False
    _set_to_confirm(tx, candidates, resource, keys, len(keys))
    return True


def _set_to_confirm(
    tx: Transaction, candidates: SweepCandidates, resource: Resource, keys: list[str], doubtful: int
) -> None:
    """Set the keys to read by id, with the address of each."""
    candidates.keys_to_confirm[resource.name] = keys
    candidates.doubtful_counts[resource.name] = doubtful
    if not resource.is_edge:
        candidates.addresses = load_addresses(tx, resource, keys)


def _clear_unsent(context: SliceContext, candidates: SweepCandidates) -> bool:
    """Clear the columns that no page sent; return False if the slice ends before that is done."""
    while True:
        with context.open_transaction() as tx:
            number = _clear_some_unsent(context, tx, candidates)
        if number < DELETION_BATCH:
            return True
        if context.should_stop():
            return False


def _clear_some_unsent(context: SliceContext, tx: Transaction, candidates: SweepCandidates) -> int:
    """Clear the columns of some rows; return of how many: ``DELETION_BATCH`` if there are more."""
    stream = candidates.stream
    changes, number = null_unsent_columns(
        tx,
        stream.resource,
        stream.walk_id,
        untold=stream.untold_columns,
        limit=DELETION_BATCH,
    )
    candidates.stream = append_and_count(context, tx, stream, stream.resource, changes)
    return number


def append_and_count(
    context: SliceContext, tx: Transaction, stream: Stream, of: Resource, changes: list[Change]
) -> Stream:
    """Append the events of changes, and count them if the walk measures drift."""
    context.append_events(tx, of, changes, is_initial=stream.is_initial)
    after = add_drift(stream, of, changes)
    if after != stream:
        save_stream(tx, stream, after)
    return after


def is_sweep_time_up(context: SliceContext, candidates: SweepCandidates, since: float) -> bool:
    """Whether a sweep that deletes since ``since`` must leave the rest to the next slice.

    The next slice judges again first. So deleting goes on for at least as long as judging took,
    unless the worker stops: otherwise it would never catch up.
    """
    if is_stopping():
        return True
    return (
        context.should_stop() and time.monotonic() - since >= since - candidates.started_monotonic
    )
