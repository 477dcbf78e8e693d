"""Closing the books of a slice: what became of it, and when the connection is asked again."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from models.change_event import ConnectionChange
from models.connection import ConnectionStatus
from models.run import RunState
from models.stream import Mode, Phase
from worker.core.crash import crash_point
from worker.core.errors import Broken, Full, Halt, Later, Refused, Spent, Trouble
from worker.events.ledger import tell_connection
from worker.store.connections import change_connection, put_off
from worker.store.lease import Transaction
from worker.store.runs import add_to_run, finish_run
from worker.store.service import HALT_SECONDS, note_halt
from worker.store.streams import Stream, Tally
from worker.sync.ending import tell_walks
from worker.sync.session import Session
from worker.sync.slice import Outcome, look_back
from worker.sync.transitions import missed

LONGEST_BREAK = 6 * 3600
"""Seconds after which a broken connection is asked again at the latest."""


@dataclass
class Report:
    """What became of a slice or run, for people and for exit codes."""

    connection: str
    state: RunState
    message: str | None = None
    resources: dict[str, Any] = field(default_factory=dict)
    tally: Tally = field(default_factory=Tally)
    calls: int = 0
    again_in: float = 0.0
    """Seconds until there is more to do, where the run is not at its end."""


def closed(session: Session, outcome: Outcome, calls: int) -> Report:
    """Add up a slice; end the run unless there is more to do."""
    wait = None if outcome.unfinished else _wait_for_calls(session, outcome)
    under_way = outcome.unfinished or wait is not None
    with session.ending() as tx:
        look_back(tx, session, outcome)
        state = RunState.RUNNING if under_way else _state(session, outcome)
        resources = {
            name: _line(session, stream, outcome.troubles.get(name), outcome.unresolved.get(name))
            for name, stream in outcome.streams.items()
        }
        message = wait.message if wait else _message(session, outcome)
        walks = add_to_run(tx, session.run, session.tally, calls)
        due = session.began if outcome.unfinished else _next_due(session, outcome)
        if not under_way:
            finish_run(tx, session.run, state, error=message, resources=resources)
            tell_walks(tx, session.run.id, walks)
        put_off(tx, due, session.order.since, done=not under_way)
    crash_point("books-closed")
    label = session.connection.label
    waits = wait.after or 0.0 if wait else 0.0
    return Report(label, state, message, resources, session.tally, calls, waits)


def _wait_for_calls(session: Session, outcome: Outcome) -> Spent | None:
    """What the run waits for, where the budget of calls is used up for a part of it.

    A stream may have found that out in an earlier slice and not be due again yet.
    """
    if outcome.spent is not None:
        return outcome.spent
    covers = session.order.covers
    waiting = [one for one in outcome.streams.values() if one.out_of_budget and covers(one)]
    first = min(waiting, key=lambda one: one.due_at or session.began, default=None)
    if first is None:
        return None
    seconds = ((first.due_at or session.began) - session.moment).total_seconds()
    return Spent(first.reason or "the budget of calls is used up", after=max(0.0, seconds))


def _next_due(session: Session, outcome: Outcome) -> datetime:
    """When the next stream is due, or the budget that the slice has used up is back."""
    dues = [stream.due_at for stream in outcome.streams.values() if stream.due_at]
    if outcome.spent is not None:
        dues.append(session.moment + timedelta(seconds=outcome.spent.after or 1.0))
    return min(dues, default=session.began)


def _message(session: Session, outcome: Outcome) -> str | None:
    problems = "; ".join(_problems(session, outcome))
    if problems or not (outcome.quarantined or outcome.cleaned):
        return problems or None
    apart = f"{outcome.quarantined} malformed objects are kept apart" * bool(outcome.quarantined)
    cleaned = f"{outcome.cleaned} objects have values that cannot be stored as they were sent"
    noted = "; ".join(filter(None, (apart, cleaned * bool(outcome.cleaned))))
    return f"{noted}: see sync.quarantine; they are read again by their id"


def _problems(session: Session, outcome: Outcome) -> Iterator[str]:
    """What kept resources from being brought up to date, now or at an earlier try."""
    for name, stream in outcome.streams.items():
        trouble = outcome.troubles.get(name)
        if trouble is not None:
            yield f"{name}: {trouble.message}"
        elif _waits(session, stream):
            yield f"{name}: {stream.reason}"
        elif _left_open(session, stream):
            yield f"{name}: not read to its end, as it was not asked for; the next run goes on"
        if _has_gaps(session, stream, outcome):
            yield f"{name}: {outcome.unresolved[name]}"
    for name, trouble in outcome.troubles.items():
        if name not in outcome.streams:
            yield f"{name}: {trouble.message}"


def _state(session: Session, outcome: Outcome) -> RunState:
    if any(stream.phase is Phase.HELD for stream in outcome.streams.values()):
        return RunState.HELD
    streams = outcome.streams.values()
    behind = any(_waits(session, one) or _left_open(session, one) for one in streams)
    gaps = any(_has_gaps(session, one, outcome) for one in streams) or outcome.cleaned > 0
    if outcome.troubles or outcome.quarantined or behind or gaps:
        return RunState.PARTIAL
    return RunState.SUCCEEDED


def _waits(session: Session, stream: Stream) -> bool:
    """Whether a stream that was asked for is not up to date, for a reason of an earlier try."""
    at_rest = stream.phase is Phase.READY and stream.mode is Mode.SEARCH
    wanted = session.order.covers(stream) and not stream.is_held
    return wanted and stream.reason is not None and not at_rest


def _left_open(session: Session, stream: Stream) -> bool:
    """Whether the run began as a wider one and ends before this stream's walk does."""
    reading = stream.phase in (Phase.LISTING, Phase.SWEEPING) or stream.next_link is not None
    return session.run.adopted and reading and not session.order.covers(stream)


def _has_gaps(session: Session, stream: Stream, outcome: Outcome) -> bool:
    """Whether Graph does not answer for parts of a stream that was asked for."""
    return session.order.covers(stream) and stream.name in outcome.unresolved


def _line(
    session: Session, stream: Stream, trouble: Trouble | None, apart: str | None
) -> dict[str, Any]:
    """What a run tells about one resource."""
    counts = {
        resource.name: session.tally.by_resource[resource.name]
        for resource in stream.carries
        if resource.name in session.tally.by_resource
    }
    return {
        "phase": stream.phase.value,
        "mode": stream.mode.value,
        "changes": counts,
        "drift": missed(stream, session.run.started_at, session.tally.walked),
        "left_out": stream.left_out or [],
        "page_size": stream.page_size,
        "problem": trouble.message if trouble else stream.reason or apart,
    }


def stopped(session: Session, trouble: Trouble, calls: int) -> Report:
    """The slice ended as a whole: say why, and when the connection is asked again."""
    message = trouble.message
    state = _stopped_state(trouble)
    by_hand = session.by_hand
    with session.ending() as tx:
        walks = add_to_run(tx, session.run, session.tally, calls)
        if state is not RunState.RUNNING:
            finish_run(tx, session.run, state, error=message)
            tell_walks(tx, session.run.id, walks)
        if isinstance(trouble, Broken):
            _break(session, tx, message)
        elif not isinstance(trouble, Refused) and not by_hand:
            least = 1.0 if state is RunState.RUNNING else 5.0
            otherwise = HALT_SECONDS if isinstance(trouble, Halt) else 300.0
            after = timedelta(seconds=max(least, trouble.after or otherwise))
            change_connection(tx, due_at=session.moment + after)
        if isinstance(trouble, Halt) and not by_hand:
            note_halt(tx.connection, message)
    if isinstance(trouble, Halt | Full):
        raise trouble
    waits = trouble.after or 0.0
    return Report(session.connection.label, state, message, {}, session.tally, calls, waits)


def _stopped_state(trouble: Trouble) -> RunState:
    if isinstance(trouble, Spent):
        return RunState.RUNNING
    passing = isinstance(trouble, Later) and not isinstance(trouble, Full)
    return RunState.PARTIAL if passing else RunState.FAILED


def _break(session: Session, tx: Transaction, message: str) -> None:
    """Mark the connection as broken; it is asked again after a growing pause."""
    known = session.connection
    pause = min(LONGEST_BREAK, 60 * 2 ** min(known.broken_count, 10))
    change_connection(
        tx,
        status=ConnectionStatus.BROKEN,
        status_reason=message,
        broken_count=known.broken_count + 1,
        due_at=session.began + timedelta(seconds=pause),
    )
    if known.status is not ConnectionStatus.BROKEN:
        tell_connection(tx, ConnectionChange.BROKEN, {"reason": message}, run_id=session.run.id)
