"""Finish a slice: record its result, and schedule the connection's next slice."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from models.change_event import ConnectionChange
from models.connection import ConnectionStatus
from models.run import RunState
from models.stream import NOT_LICENSED_PHASE, OFF_PHASE, Phase
from worker.core.errors import (
    BudgetExhausted,
    ConfigurationError,
    ConnectionBroken,
    MirrorError,
    ResourceRefused,
    RetryLater,
    StorageFull,
)
from worker.core.process.failpoints import hit_failpoint
from worker.events.append import append_connection_event
from worker.store.lease import Transaction
from worker.store.service.facts import HALT_SECONDS, note_halt
from worker.store.state.connections import reschedule, update_connection
from worker.store.state.runs import Tally, add_to_run, finish_run
from worker.store.state.streams import Stream
from worker.sync.context import SliceContext
from worker.sync.run_end import append_resynced_event
from worker.sync.slice import SliceOutcome, update_outcome
from worker.sync.state import get_drift

MAX_BROKEN_PAUSE = 6 * 3600
"""Most seconds until a broken connection is tried again."""


@dataclass
class SyncReport:
    """The result of a slice or run, for operators and exit codes."""

    connection_label: str
    state: RunState
    message: str | None = None
    resources: dict[str, Any] = field(default_factory=dict)
    tally: Tally = field(default_factory=Tally)
    calls: int = 0
    retry_after: float = 0.0
    """Seconds until there is more to do, if the run has not ended."""


def finish_slice(context: SliceContext, outcome: SliceOutcome, calls: int) -> SyncReport:
    """Add a slice's counts to its run; end the run unless there is more to do."""
    wait = None if outcome.has_more_work else _find_budget_wait(context, outcome)
    under_way = outcome.has_more_work or wait is not None
    with context.open_final_transaction() as tx:
        update_outcome(tx, context, outcome)
        state = RunState.RUNNING if under_way else _decide_state(context, outcome)
        resources = {
            name: _build_resource_report(
                context, stream, outcome.errors.get(name), outcome.unresolved_summaries.get(name)
            )
            for name, stream in outcome.streams.items()
        }
        message = wait.message if wait else _build_message(context, outcome)
        walks = add_to_run(tx, context.run, context.tally, calls)
        due = context.started_at if outcome.has_more_work else _compute_next_due(context, outcome)
        if not under_way:
            finish_run(tx, context.run, state, error=message, resources=resources)
            append_resynced_event(tx, context.run.id, walks)
        reschedule(tx, due, context.request.requested_at, done=not under_way)
    hit_failpoint("books-closed")
    label = context.connection.label
    waits = wait.after or 0.0 if wait else 0.0
    return SyncReport(label, state, message, resources, context.tally, calls, waits)


def _find_budget_wait(context: SliceContext, outcome: SliceOutcome) -> BudgetExhausted | None:
    """Return what the run waits for if a call budget is used up for a part of it, else None.

    A stream may have used it up in an earlier slice and not be due again yet.
    """
    if outcome.budget_error is not None:
        return outcome.budget_error
    covers = context.request.covers
    waiting = [one for one in outcome.streams.values() if one.out_of_budget and covers(one)]
    first = min(waiting, key=lambda one: one.due_at or context.started_at, default=None)
    if first is None:
        return None
    seconds = ((first.due_at or context.started_at) - context.now).total_seconds()
    return BudgetExhausted(
        first.reason or "the budget of calls is used up", after=max(0.0, seconds)
    )


def _compute_next_due(context: SliceContext, outcome: SliceOutcome) -> datetime:
    """Return when the next stream is due, or when the used-up budget has calls again."""
    dues = [stream.due_at for stream in outcome.streams.values() if stream.due_at]
    if outcome.budget_error is not None:
        dues.append(context.now + timedelta(seconds=outcome.budget_error.after or 1.0))
    return min(dues, default=context.started_at)


def _build_message(context: SliceContext, outcome: SliceOutcome) -> str | None:
    problems = "; ".join(_list_problems(context, outcome))
    if problems or not (outcome.quarantined_count or outcome.cleaned_count):
        return problems or None
    apart = f"{outcome.quarantined_count} malformed objects are quarantined" * bool(
        outcome.quarantined_count
    )
    cleaned = f"{outcome.cleaned_count} objects have values that cannot be stored as they were sent"
    noted = "; ".join(filter(None, (apart, cleaned * bool(outcome.cleaned_count))))
    return f"{noted}: see sync.quarantine; they are read again by id"


def _list_problems(context: SliceContext, outcome: SliceOutcome) -> Iterator[str]:
    """Yield what kept resources from being up to date, in this slice or an earlier one."""
    for name, stream in outcome.streams.items():
        error = outcome.errors.get(name)
        if error is not None:
            yield f"{name}: {error.message}"
        elif _is_asked_in_vain(context, stream) or _is_waiting(context, stream):
            yield f"{name}: {stream.reason or 'it is switched off in the settings'}"
        elif _is_left_open(context, stream):
            yield f"{name}: not read completely, as it was not requested; the next run continues"
        if _has_gaps(context, stream, outcome):
            yield f"{name}: {outcome.unresolved_summaries[name]}"
    for name, error in outcome.errors.items():
        if name not in outcome.streams:
            yield f"{name}: {error.message}"


def _decide_state(context: SliceContext, outcome: SliceOutcome) -> RunState:
    if any(stream.phase is Phase.HELD for stream in outcome.streams.values()):
        return RunState.HELD
    streams = outcome.streams.values()
    behind = any(
        _is_waiting(context, one) or _is_left_open(context, one) or _is_asked_in_vain(context, one)
        for one in streams
    )
    gaps = any(_has_gaps(context, one, outcome) for one in streams) or outcome.cleaned_count > 0
    if outcome.errors or outcome.quarantined_count or behind or gaps:
        return RunState.PARTIAL
    return RunState.SUCCEEDED


def _is_waiting(context: SliceContext, stream: Stream) -> bool:
    """Whether a requested stream is not up to date because of an earlier failure."""
    at_rest = stream.phase is Phase.READY and stream.source.best_effort != ""
    wanted = context.request.covers(stream) and not (stream.is_held or stream.is_not_licensed)
    return wanted and stream.reason is not None and not at_rest


def _is_asked_in_vain(context: SliceContext, stream: Stream) -> bool:
    """Whether a request names this resource although it is off."""
    asked = context.request.resources
    return asked is not None and not stream.is_on and stream.name in asked


def _is_left_open(context: SliceContext, stream: Stream) -> bool:
    """Whether the run began with more resources and ends before this stream's walk does."""
    reading = stream.phase in (Phase.LISTING, Phase.SWEEPING) or stream.next_link is not None
    return context.run.is_resumed and reading and not context.request.covers(stream)


def _has_gaps(context: SliceContext, stream: Stream, outcome: SliceOutcome) -> bool:
    """Whether Graph gives no answer for parts of a requested stream."""
    return context.request.covers(stream) and stream.name in outcome.unresolved_summaries


def _build_resource_report(
    context: SliceContext, stream: Stream, error: MirrorError | None, apart: str | None
) -> dict[str, Any]:
    """Return a run's report on one resource."""
    counts = {
        resource.name: context.tally.by_resource[resource.name]
        for resource in stream.carried_resources
        if resource.name in context.tally.by_resource
    }
    return {
        "phase": _get_shown_phase(stream),
        "mode": stream.mode.value,
        "changes": counts,
        "drift": get_drift(stream, context.run.started_at, context.tally.walked),
        "left_out": stream.left_out or [],
        "page_size": stream.page_size,
        "problem": error.message if error else stream.reason or apart,
    }


def _get_shown_phase(stream: Stream) -> str:
    if not stream.is_on:
        return OFF_PHASE
    return NOT_LICENSED_PHASE if stream.is_not_licensed else stream.phase.value


def abort_slice(context: SliceContext, error: MirrorError, calls: int) -> SyncReport:
    """Record why the whole slice failed, and schedule the next attempt.

    Raises ``error`` again if it is ConfigurationError or StorageFull.
    """
    message = error.message
    state = _decide_abort_state(error)
    by_hand = context.is_foreground
    with context.open_final_transaction() as tx:
        walks = add_to_run(tx, context.run, context.tally, calls)
        if state is not RunState.RUNNING:
            finish_run(tx, context.run, state, error=message)
            append_resynced_event(tx, context.run.id, walks)
        if isinstance(error, ConnectionBroken):
            _mark_broken(context, tx, message)
        elif not isinstance(error, ResourceRefused) and not by_hand:
            least = 1.0 if state is RunState.RUNNING else 5.0
            otherwise = HALT_SECONDS if isinstance(error, ConfigurationError) else 300.0
            after = timedelta(seconds=max(least, error.after or otherwise))
            update_connection(tx, due_at=context.now + after)
        if isinstance(error, ConfigurationError) and not by_hand:
            note_halt(tx.db, message)
    if isinstance(error, ConfigurationError | StorageFull):
        raise error
    waits = error.after or 0.0
    return SyncReport(context.connection.label, state, message, {}, context.tally, calls, waits)


def _decide_abort_state(error: MirrorError) -> RunState:
    if isinstance(error, BudgetExhausted):
        return RunState.RUNNING
    passing = isinstance(error, RetryLater) and not isinstance(error, StorageFull)
    return RunState.PARTIAL if passing else RunState.FAILED


def _mark_broken(context: SliceContext, tx: Transaction, message: str) -> None:
    """Mark the connection as broken, and retry it after a growing pause."""
    connection = context.connection
    pause = min(MAX_BROKEN_PAUSE, 60 * 2 ** min(connection.broken_count, 10))
    update_connection(
        tx,
        status=ConnectionStatus.BROKEN,
        status_reason=message,
        broken_count=connection.broken_count + 1,
        due_at=context.started_at + timedelta(seconds=pause),
    )
    if connection.status is not ConnectionStatus.BROKEN:
        append_connection_event(
            tx, ConnectionChange.BROKEN, {"reason": message}, run_id=context.run.id
        )
