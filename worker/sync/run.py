"""A run: bring one connection up to date, slice by slice.

Reads as the whole story: take the lease, adopt or open the run, take a slice, close the books.
"""

import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from math import ceil

from models.connection import ConnectionStatus
from models.run import RunState, RunTrigger
from worker.core.crash import crash_point
from worker.core.errors import Away, Broken, Fenced, Halt, Later, Refused, Trouble
from worker.core.settings import Settings
from worker.core.stopping import is_stopping
from worker.graph.batch import Batcher
from worker.nango.client import Address, NangoClient
from worker.store.connections import Known, Look, look
from worker.store.engine import Database
from worker.store.erasure import Erased, load_erased
from worker.store.lease import Lease, give_back, release, take
from worker.store.runs import Run, resume_or_open
from worker.sync.books import Report, closed, stopped
from worker.sync.fault import close_after_fault, record_failed_start
from worker.sync.key_memory import recall_key
from worker.sync.plan import Order
from worker.sync.policy import METADATA_KEY, Policy, customised
from worker.sync.session import Progress, Session, silent
from worker.sync.slice import Standing, standing_of, take_slice

AWAY_PATIENCE = 60.0
"""Seconds that a slice waits for Postgres to come back, so as to give its lease back at once."""


@dataclass(frozen=True)
class Kit:
    """What a process has to sync with."""

    database: Database
    nango: NangoClient
    settings: Settings


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
    Halt, Fenced. Any other exception is a fault of ours, another Trouble included: the run is
    closed as failed, and the exception is raised again.
    """
    try:
        beginning = _begun(kit, connection_id, trigger, 0.0 if order else AWAY_PATIENCE)
    except Trouble:
        raise
    except Exception as fault:
        seconds, by_hand = kit.settings.lease_seconds, order is not None
        record_failed_start(
            kit.database, connection_id, trigger, fault, by_hand=by_hand, seconds=seconds
        )
        raise
    crash_point("lease-taken")
    calls = kit.nango.calls
    session = _session(kit, beginning, trigger, order)
    session.progress = progress
    with _leased(session):
        crash_point("run-opened")
        try:
            return _taken(kit, session, beginning.standing, seconds, calls)
        except (Fenced, Away):
            raise
        except Exception as fault:
            close_after_fault(session, fault, kit.nango.calls - calls)
            raise


def _taken(
    kit: Kit, session: Session, standing: Standing, seconds: float | None, calls: int
) -> Report:
    """Take the slice and close its books."""
    try:
        outcome = take_slice(session, standing, seconds=seconds)
    except (Broken, Later, Refused, Halt) as trouble:
        return stopped(session, trouble, kit.nango.calls - calls)
    return closed(session, outcome, kit.nango.calls - calls)


@dataclass(frozen=True)
class _Beginning:
    """All that a slice begins with."""

    look: Look
    lease: Lease
    run: Run
    erased: Erased
    standing: Standing


def _begun(kit: Kit, connection_id: int, trigger: RunTrigger, patience: float) -> _Beginning:
    """Take the lease, open or adopt the run, and see where everything stands: all or nothing.

    A slice that finds Postgres away waits, so that its claim need not lapse.
    Raises Away, Unknown, Refused, Busy.
    """
    until = time.monotonic() + patience
    while True:
        try:
            with kit.database.begin() as connection:
                recall_key(connection, kit.nango)
                found = look(connection, connection_id)
                _check_status(found.known)
                lease, tx = take(connection, connection_id, kit.settings.lease_seconds)
                run = resume_or_open(tx, trigger)
                erased = load_erased(connection, connection_id)
                return _Beginning(found, lease, run, erased, standing_of(tx))
        except Away:
            if time.monotonic() >= until or is_stopping():
                raise
            time.sleep(0.5)


def _check_status(known: Known) -> None:
    if known.status in (ConnectionStatus.ACTIVE, ConnectionStatus.BROKEN):
        return
    raise Refused(
        f"it is {known.status}, so it is not synced"
        f"{f': {known.status_reason}' if known.status_reason else ''}",
        connection=known.label,
    )


@contextlib.contextmanager
def _leased(session: Session) -> Iterator[None]:
    """Whatever happens, the lease does not outlive the slice."""
    database, lease = session.database, session.lease
    try:
        yield
    except Away:
        _come_back(database, lease)
        raise
    finally:
        # A lease that cannot be given back now lapses by itself.
        with contextlib.suppress(Away, Later):
            if not session.released:
                release(database, lease)
            crash_point("lease-released")


def _come_back(database: Database, lease: Lease) -> None:
    """Once Postgres is there again, free the lease and have the connection due at once."""
    until = time.monotonic() + min(AWAY_PATIENCE, lease.seconds)
    while time.monotonic() < until and not is_stopping():
        with contextlib.suppress(Away, Later):
            give_back(database, lease)
            return
        time.sleep(0.5)


def _session(kit: Kit, beginning: _Beginning, trigger: RunTrigger, order: Order | None) -> Session:
    known, began, contested = beginning.look
    policy, _ = customised(Policy.of(kit.settings), known.settings.get(METADATA_KEY))
    address = Address(known.nango_connection_id, known.provider_config_key)
    session = Session(
        database=kit.database,
        lease=beginning.lease,
        connection=known,
        run=beginning.run,
        batcher=Batcher(
            kit.nango,
            address,
            lane=RunTrigger.MANUAL if order else _lane(trigger, beginning.run),
            tenant=known.tenant_id,
        ),
        policy=policy,
        order=order or _order(known, began),
        by_hand=order is not None,
        began=began,
        call_seconds=kit.settings.call_seconds,
        retry_seconds=kit.settings.retry_seconds,
        erased=beginning.erased,
        contested=contested,
    )
    session.batcher.before = session.keep_lease
    return session


def _lane(trigger: RunTrigger, run: Run) -> RunTrigger:
    """The lane of a slice's calls: a first load keeps its own until its run has ended.

    A person who asks for the connection meanwhile does not wait for the share of first loads.
    """
    adopted = trigger is RunTrigger.SCHEDULED and run.trigger is RunTrigger.BACKFILL
    return RunTrigger.BACKFILL if adopted else trigger


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


def run_to_end(
    kit: Kit, connection_id: int, order: Order, *, progress: Progress = silent
) -> Report:
    """Sync here and now, whatever the clocks say; waits where a budget is spent, and tells so.

    Raises as ``run_slice``.
    """
    while True:
        report = run_slice(
            kit, connection_id, trigger=RunTrigger.MANUAL, order=order, progress=progress
        )
        if report.state is not RunState.RUNNING or is_stopping():
            return report
        progress("", ceil(report.again_in), report.message or "it waits")
        time.sleep(max(0.05, report.again_in))
