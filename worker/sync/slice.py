"""One slice: open the connection, then advance every due stream until done or out of time.

The streams are fetched in parallel, each one page ahead; commits come one after another.
"""

import time
from collections.abc import Callable, Mapping
from concurrent.futures import FIRST_COMPLETED, Executor, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field, replace

from models.connection import ConnectionStatus
from models.resources import EDGES
from worker.core.errors import (
    BudgetExhausted,
    MirrorError,
    RetryLater,
)
from worker.core.process.failpoints import hit_failpoint
from worker.nango.response import ApiResponse
from worker.store.lease import Transaction
from worker.store.mirror.hidden_membership import release_announced_removals
from worker.store.state.quarantine import count_quarantined
from worker.store.state.streams import Stream, load_streams, save_stream
from worker.store.state.unresolved import has_unresolved, summarize_unresolved
from worker.store.sweep.removals import count_removals
from worker.sync.connections.identity import mark_recovered, open_connection
from worker.sync.context import SliceContext
from worker.sync.parents import hold_back
from worker.sync.plan import (
    StreamStep,
    choose_step,
    rank_for_opening,
    schedule_property_walk,
)
from worker.sync.preemption import build_preemption_check
from worker.sync.recheck.recheck import (
    run_recheck,
)
from worker.sync.sources.pages import Fetch
from worker.sync.state import release_hold
from worker.sync.stream_runner import StreamRunner
from worker.sync.switches import apply_switches


@dataclass
class SliceOutcome:
    """The result of a slice."""

    streams: dict[str, Stream] = field(default_factory=dict)
    errors: dict[str, MirrorError] = field(default_factory=dict)
    has_more_work: bool = False
    """Whether there is more to do at once."""
    budget_error: BudgetExhausted | None = None
    """Set if there is more to do once a budget has calls again."""
    quarantined_count: int = 0
    """Objects that are in quarantine."""
    cleaned_count: int = 0
    """Objects with values that are not stored as Graph sent them."""
    unresolved_summaries: dict[str, str] = field(default_factory=dict)
    """For each stream, a sentence on the parts that Graph gives no answer for."""


@dataclass(frozen=True)
class StartingState:
    """The streams as committed, with their pending removals and quarantined objects."""

    streams: dict[str, Stream]
    pending_removals: dict[tuple[str, bool], int]
    quarantined_counts: dict[tuple[str, bool], int]
    has_unresolved: bool
    """Whether Graph gives no answer for some parts."""


def load_starting_state(tx: Transaction) -> StartingState:
    """Return the state in which a slice begins."""
    pending = count_removals(tx)
    held = [edge for edge in EDGES if pending.get((edge.name, True))]
    released = [edge for edge in held if release_announced_removals(tx, edge)]
    if released:
        pending = count_removals(tx)
    found = load_streams(tx.db, tx.connection_id)
    streams = {name: _release_hold_if_empty(tx, stream, pending) for name, stream in found.items()}
    return StartingState(streams, pending, count_quarantined(tx), has_unresolved(tx))


def sync_streams(
    context: SliceContext, starting_state: StartingState, *, seconds: float | None = None
) -> SliceOutcome:
    """Sync the due streams for at most ``seconds`` (None: until done).

    Raises ConnectionBroken, ConfigurationError, LeaseLost, ServerUnavailable, RetryLater (the
    opening call itself failed).
    """
    context.deadline = None if seconds is None else time.monotonic() + seconds
    streams, is_clearing = apply_switches(context, starting_state.streams)
    streamings = _build_runners(context, replace(starting_state, streams=streams))
    due = [one for one in streamings if one.step is not StreamStep.WAIT]
    if due or context.connection.status is ConnectionStatus.BROKEN:
        _open_streams(context, due)
    if due:
        context.is_preempted = build_preemption_check(context)
        _run_streams(context, due)
        _run_followers(context, [one for one in streamings if one not in due])
    unfinished = any(one.step is not StreamStep.WAIT for one in streamings)
    errors = {one.stream.name: one.error for one in streamings if one.error is not None}
    streams = {one.stream.name: one.stream for one in streamings}
    if due and not unfinished:
        errors |= run_recheck(context, streams)
    spent = next((one for one in errors.values() if isinstance(one, BudgetExhausted)), None)
    has_more_work = unfinished or is_clearing or bool(context.unfinished_streams)
    return SliceOutcome(streams, errors, has_more_work, spent)


def update_outcome(tx: Transaction, context: SliceContext, outcome: SliceOutcome) -> None:
    """Update the outcome with held streams, malformed objects and unresolved parts."""
    if any(stream.is_held for stream in outcome.streams.values()):
        pending = count_removals(tx)
        outcome.streams = {
            name: _release_hold_if_empty(tx, one, pending) for name, one in outcome.streams.items()
        }
    if any(context.has_quarantined.values()):
        counts = count_quarantined(tx)
        outcome.quarantined_count = sum(n for (_, apart), n in counts.items() if apart)
        outcome.cleaned_count = sum(counts.values()) - outcome.quarantined_count
    if context.has_unresolved:
        found = summarize_unresolved(tx.db, tx.connection_id)
        outcome.unresolved_summaries = found.get(tx.connection_id, {})


def _build_runners(context: SliceContext, starting_state: StartingState) -> list[StreamRunner]:
    streamings: dict[str, StreamRunner] = {}
    context.has_unresolved = starting_state.has_unresolved
    noted = {resource for resource, _ in starting_state.quarantined_counts}
    for name, known in starting_state.streams.items():
        stream = schedule_property_walk(known, context.connection.id, context.started_at)
        context.has_quarantined[name] = name in noted
        if not stream.can_date_changes(context.started_at):
            context.unobserved_streams.add(name)
        names = [resource.name for resource in stream.carried_resources]
        waiting = sum(starting_state.pending_removals.get((one, False), 0) for one in names)
        parents = streamings.get(stream.resource.partitioned_by) if stream.source.below else None
        if parents is not None:
            # As stored: one that was refused is about to be tried again.
            stored = starting_state.streams[parents.stream.name]
            stream = _follow_parents(context, stream, stored, waiting)
        runner = StreamRunner(context, stream, waiting, context.started_at, parents)
        streamings[name] = runner
    return list(streamings.values())


def _follow_parents(
    context: SliceContext, stream: Stream, parents: Stream, pending_removals: int
) -> Stream:
    """Save that a stream waits for its parents, or no longer."""
    moment = context.started_at
    step = choose_step(stream, context.request, moment, context.policy, pending_removals)
    after = hold_back(stream, parents, moment, is_wanted=step is not StreamStep.WAIT)
    if after != stream:
        with context.open_transaction() as tx:
            save_stream(tx, stream, after)
    return after


def _release_hold_if_empty(
    tx: Transaction, stream: Stream, pending: Mapping[tuple[str, bool], int]
) -> Stream:
    """Release a held stream if none of its removals waits for an operator any more.

    Held removals may have gone with other rows: memberships with a member whose own stream finished
    later.
    """
    if not stream.is_held or any(pending.get((one.name, True)) for one in stream.carried_resources):
        return stream
    after = release_hold(stream)
    save_stream(tx, stream, after)
    return after


def _open_streams(context: SliceContext, due: list[StreamRunner]) -> None:
    order = sorted(due, key=lambda one: rank_for_opening(one.stream))
    links = {one.stream.name: one.build_opening_path() for one in order}
    targets = {name: target for name, target in links.items() if target is not None}
    replies = _send_opening_call(context, targets)
    mark_recovered(context)
    hit_failpoint("opened")
    for one in due:
        one.accept_opening(replies.get(one.stream.name))


def _send_opening_call(context: SliceContext, targets: Mapping[str, str]) -> dict[str, ApiResponse]:
    """Send the opening call; if it takes too long, request the organization only.

    Each page is then requested by itself, so that the slow one is found.
    """
    try:
        return open_connection(context, targets)
    except RetryLater as error:
        if not error.needs_smaller_request or not targets:
            raise
    return open_connection(context, {})


class _FetchLoop:
    """Fetches and decodes on pools, loads on its own thread; sends no more when time is up."""

    def __init__(self, pool: Executor, calls: Executor, context: SliceContext) -> None:
        self._fetch_pool = pool
        self._call_pool = calls
        self._is_time_up = context.is_time_up
        self._should_stop = context.should_stop
        self._running: dict[Future[object], tuple[StreamRunner, int]] = {}

    def run(self, due: list[StreamRunner]) -> None:
        for one in due:
            one.submit = self._submit_prefetch
            self._submit_fetch(one, _prepare_fetch(one), ignore_deadline=True)
        while self._running:
            finished, _ = wait(self._running, return_when=FIRST_COMPLETED)
            for future in [one for one in self._running if one in finished]:
                one, generation = self._running.pop(future)
                if generation != one.generation or not self._handle_finished(one, future):
                    self._submit_fetch(one, _prepare_fetch(one))
            self._should_stop()

    def _handle_finished(self, one: StreamRunner, future: "Future[object]") -> bool:
        """Fetch the following page, load the finished one; return whether a fetch is under way."""
        reading_ahead = False
        try:
            result = future.result()
            hit_failpoint("page-fetched")
            reading_ahead = self._submit_fetch(one, one.prepare_fetch_ahead(result))
            one.handle_result(result)
        except MirrorError as error:
            one.handle_error(error)
        return reading_ahead

    def _submit_fetch(
        self, one: StreamRunner, asked: Fetch | None, *, ignore_deadline: bool = False
    ) -> bool:
        """Submit a fetch; each stream's first ignores the deadline, so that it progresses."""
        if asked is None or (self._is_time_up() and not ignore_deadline):
            return False
        self._running[self._fetch_pool.submit(asked)] = (one, one.generation)
        return True

    def _submit_prefetch(self, call: Callable[[], ApiResponse]) -> "Future[ApiResponse] | None":
        """Send the call for the following page before the current one is decoded."""
        return None if self._is_time_up() else self._call_pool.submit(call)


def _run_streams(context: SliceContext, due: list[StreamRunner]) -> None:
    number = len(due)
    with (
        ThreadPoolExecutor(number, "fetch") as pool,
        ThreadPoolExecutor(2 * number, "call") as calls,
    ):
        _FetchLoop(pool, calls, context).run(due)


def _run_followers(context: SliceContext, others: list[StreamRunner]) -> None:
    """Run the streams that have waited for others of this slice."""
    while not context.should_stop():
        ready = [one for one in others if one.resume()]
        if not ready:
            return
        _run_streams(context, ready)
        others = [one for one in others if one not in ready]


def _prepare_fetch(one: StreamRunner) -> Fetch | None:
    """Return the next fetch; an error while preparing it belongs to the stream."""
    while True:
        try:
            return one.prepare_fetch()
        except MirrorError as error:
            one.handle_error(error)
