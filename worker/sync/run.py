"""A run: bring one connection up to date, slice by slice.

Reads as the whole story: take the lease, adopt or open the run, take a slice, close the books.
"""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import func, select

from models.change_event import ConnectionChange
from models.connection import ConnectionStatus
from models.run import RunState, RunTrigger
from models.stream import Phase
from worker.core.crash import crash_point
from worker.core.errors import Away, Broken, Halt, Later, Refused, Trouble
from worker.core.settings import Settings
from worker.events.ledger import tell_connection
from worker.graph.batch import Batcher
from worker.nango.client import Address, NangoClient
from worker.store.connections import Known, change_connection, get, settle_request
from worker.store.engine import Database
from worker.store.lease import Lease, Transaction, release, take, writing
from worker.store.runs import add_to_run, finish_run, resume_or_open
from worker.store.service import note_halt
from worker.store.streams import Stream, Tally
from worker.sync.plan import Order
from worker.sync.policy import METADATA_KEY, Policy, customised
from worker.sync.session import Progress, Session, silent
from worker.sync.slice import Outcome, take_slice

LONGEST_BREAK = 6 * 3600
"""Seconds after which a broken connection is asked again at the latest."""


@dataclass(frozen=True)
class Kit:
    """What a process has to sync with."""

    database: Database
    nango: NangoClient
    settings: Settings


@dataclass
class Report:
    """What became of a slice or run, for people and for exit codes."""

    connection: str
    state: RunState
    message: str | None = None
    resources: dict[str, Any] = field(default_factory=dict)
    tally: Tally = field(default_factory=Tally)
    calls: int = 0


def run_slice(
    kit: Kit,
    connection_id: int,
    *,
    trigger: RunTrigger,
    order: Order | None = None,
    seconds: float | None = None,
    progress: Progress = silent,
) -> Report:
    """Bring a connection forward for at most ``seconds`` (None: until it is done).

    Without an ``order``, the clocks and what an operator requested decide.
    Raises Busy (another process holds the lease), Refused (not a connection to sync), Away,
    Halt, Fenced.
    """
    with kit.database.begin() as connection:
        known = get(connection, connection_id)
    _check_status(known)
    calls = kit.nango.calls
    with _leased(kit, connection_id) as lease:
        session = _session(kit, lease, known, trigger, order)
        session.progress = progress
        try:
            outcome = take_slice(session, seconds=seconds)
        except (Broken, Later, Refused, Halt) as trouble:
            return _stopped(session, trouble, kit.nango.calls - calls)
        return _closed(session, outcome, kit.nango.calls - calls)


def _check_status(known: Known) -> None:
    if known.status in (ConnectionStatus.ACTIVE, ConnectionStatus.BROKEN):
        return
    raise Refused(
        f"it is {known.status}, so it is not synced"
        f"{f': {known.status_reason}' if known.status_reason else ''}",
        connection=known.label,
    )


@contextlib.contextmanager
def _leased(kit: Kit, connection_id: int) -> Iterator[Lease]:
    lease = take(kit.database, connection_id, kit.settings.lease_seconds)
    crash_point("lease-taken")
    try:
        yield lease
    finally:
        # A lease that cannot be given back now lapses by itself.
        with contextlib.suppress(Away, Later):
            release(kit.database, lease)
            crash_point("lease-released")


def _session(
    kit: Kit, lease: Lease, known: Known, trigger: RunTrigger, order: Order | None
) -> Session:
    with writing(kit.database, lease) as tx:
        run = resume_or_open(tx, trigger)
        began: datetime = tx.connection.execute(select(func.clock_timestamp())).scalar_one()
    crash_point("run-opened")
    policy, _ = customised(Policy.of(kit.settings), known.settings.get(METADATA_KEY))
    address = Address(known.nango_connection_id, known.provider_config_key)
    return Session(
        database=kit.database,
        lease=lease,
        connection=known,
        run=run,
        batcher=Batcher(kit.nango, address),
        policy=policy,
        order=order or _order(known, began),
        by_hand=order is not None,
        began=began,
        call_seconds=kit.settings.call_seconds,
    )


def _order(known: Known, now: datetime) -> Order:
    if known.requested_at is None:
        return Order(since=now)
    wanted = known.requested_resources
    return Order(
        since=known.requested_at,
        manual=True,
        resources=frozenset(wanted) if wanted else None,
        full=known.requested_full,
    )


def _closed(session: Session, outcome: Outcome, calls: int) -> Report:
    """Add up a slice; end the run unless there is more to do."""
    state = RunState.RUNNING if outcome.unfinished else _state(outcome)
    resources = {
        name: _line(session, stream, outcome.troubles.get(name))
        for name, stream in outcome.streams.items()
    }
    message = "; ".join(_problems(outcome)) or None
    if message is None and outcome.quarantined:
        message = (
            f"{outcome.quarantined} malformed objects are kept apart in sync.quarantine; "
            "they are read again by their id"
        )
    with session.writing() as tx:
        add_to_run(tx, session.run, session.tally, calls)
        dues = [stream.due_at for stream in outcome.streams.values() if stream.due_at]
        due = session.began if outcome.unfinished or not dues else min(dues)
        values: dict[str, Any] = {"due_at": due}
        if not outcome.unfinished:
            finish_run(tx, session.run, state, error=message, resources=resources)
        change_connection(tx, **values)
        settle_request(tx, session.order.since, done=not outcome.unfinished)
    crash_point("books-closed")
    label = session.connection.label
    return Report(label, state, message, resources, session.tally, calls)


def _problems(outcome: Outcome) -> Iterator[str]:
    """What kept resources from being brought up to date, now or at an earlier try."""
    for name, stream in outcome.streams.items():
        trouble = outcome.troubles.get(name)
        if trouble is not None:
            yield f"{name}: {trouble.message}"
        elif stream.phase is Phase.REFUSED:
            yield f"{name}: {stream.reason}"
    for name, trouble in outcome.troubles.items():
        if name not in outcome.streams:
            yield f"{name}: {trouble.message}"


def _state(outcome: Outcome) -> RunState:
    if any(stream.phase is Phase.HELD for stream in outcome.streams.values()):
        return RunState.HELD
    refused = any(stream.phase is Phase.REFUSED for stream in outcome.streams.values())
    if outcome.troubles or outcome.quarantined or refused:
        return RunState.PARTIAL
    return RunState.SUCCEEDED


def _line(session: Session, stream: Stream, trouble: Trouble | None) -> dict[str, Any]:
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
        "problem": trouble.message if trouble else stream.reason,
    }


def _stopped(session: Session, trouble: Trouble, calls: int) -> Report:
    """The slice ended as a whole: say why, and when the connection is asked again."""
    message = trouble.message
    state = RunState.PARTIAL if isinstance(trouble, Later) else RunState.FAILED
    by_hand = session.by_hand
    with session.writing() as tx:
        add_to_run(tx, session.run, session.tally, calls)
        finish_run(tx, session.run, state, error=message)
        if isinstance(trouble, Broken):
            _break(session, tx, message)
        elif not isinstance(trouble, Refused) and not by_hand:
            after = timedelta(seconds=max(5.0, trouble.after or 300.0))
            change_connection(tx, due_at=session.began + after)
        if isinstance(trouble, Halt) and not by_hand:
            note_halt(tx.connection, message)
    if isinstance(trouble, Halt):
        raise trouble
    return Report(session.connection.label, state, message, {}, session.tally, calls)


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


def run_to_end(
    kit: Kit, connection_id: int, order: Order, *, progress: Progress = silent
) -> Report:
    """Sync here and now, whatever the clocks say. Raises as ``run_slice``."""
    return run_slice(kit, connection_id, trigger=RunTrigger.MANUAL, order=order, progress=progress)
