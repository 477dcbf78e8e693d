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
from worker.core.errors import (
    ConfigurationError,
    ConnectionBroken,
    LeaseLost,
    MirrorError,
    ResourceRefused,
    RetryLater,
    ServerUnavailable,
)
from worker.core.process.failpoints import hit_failpoint
from worker.core.process.shutdown import is_stopping
from worker.graph.client import GraphClient
from worker.nango.client import ConnectionRef
from worker.store.engine import Database
from worker.store.lease import Lease, release_lease, return_lease, take_lease
from worker.store.state.connections import Connection, SliceConnection, load_for_slice
from worker.store.state.erasures import ErasedObjects, load_erased
from worker.store.state.runs import Run, resume_or_open
from worker.sync.connections.nango_key import restore_key_health
from worker.sync.context import OnProgress, SliceContext, ignore_progress
from worker.sync.failure import fail_run, record_failed_start
from worker.sync.plan import SyncRequest
from worker.sync.policy import METADATA_KEY, Policy, apply_overrides
from worker.sync.report import SyncReport, abort_slice, finish_slice
from worker.sync.runtime import Runtime
from worker.sync.slice import StartingState, load_starting_state, sync_streams

POSTGRES_WAIT_SECONDS = 60.0
"""Seconds that a slice waits for Postgres to come back, so as to give its lease back at once."""


def run_slice(
    runtime: Runtime,
    connection_id: int,
    *,
    trigger: RunTrigger,
    request: SyncRequest | None = None,
    seconds: float | None = None,
    on_progress: OnProgress = ignore_progress,
) -> SyncReport:
    """Bring a connection forward for at most ``seconds`` (None: until it is done).

    Without an ``request``, the clocks and what an operator requested decide.
    Raises LeaseHeld (another process holds the lease), Refused (not a connection to sync), Away,
    Halt, Fenced. Any other exception is a fault of ours, another Trouble included: the run is
    closed as failed, and the exception is raised again.
    """
    try:
        beginning = _start_slice(
            runtime, connection_id, trigger, 0.0 if request else POSTGRES_WAIT_SECONDS
        )
    except MirrorError:
        raise
    except Exception as fault:
        seconds, by_hand = runtime.settings.lease_seconds, request is not None
        record_failed_start(
            runtime.database,
            connection_id,
            trigger,
            fault,
            is_foreground=by_hand,
            lease_seconds=seconds,
        )
        raise
    hit_failpoint("lease-taken")
    calls = runtime.nango.calls
    session = _build_context(runtime, beginning, trigger, request)
    session.on_progress = on_progress
    with _hold_lease(session):
        hit_failpoint("run-opened")
        try:
            return _run_slice_to_report(runtime, session, beginning.starting_state, seconds, calls)
        except (LeaseLost, ServerUnavailable):
            raise
        except Exception as fault:
            fail_run(session, fault, runtime.nango.calls - calls)
            raise


def _run_slice_to_report(
    runtime: Runtime,
    context: SliceContext,
    standing: StartingState,
    seconds: float | None,
    calls: int,
) -> SyncReport:
    """Take the slice and close its books."""
    try:
        outcome = sync_streams(context, standing, seconds=seconds)
    except (ConnectionBroken, RetryLater, ResourceRefused, ConfigurationError) as trouble:
        return abort_slice(context, trouble, runtime.nango.calls - calls)
    return finish_slice(context, outcome, runtime.nango.calls - calls)


@dataclass(frozen=True)
class _SliceStart:
    """All that a slice begins with."""

    loaded: SliceConnection
    lease: Lease
    run: Run
    erased: ErasedObjects
    starting_state: StartingState


def _start_slice(
    runtime: Runtime, connection_id: int, trigger: RunTrigger, patience: float
) -> _SliceStart:
    """Take the lease, open or adopt the run, and see where everything stands: all or nothing.

    A slice that finds Postgres away waits, so that its claim need not lapse.
    Raises ServerUnavailable, NotFound, ResourceRefused, LeaseHeld.
    """
    until = time.monotonic() + patience
    while True:
        try:
            with runtime.database.open_transaction() as db:
                restore_key_health(db, runtime.nango)
                found = load_for_slice(db, connection_id)
                _check_is_syncable(found.connection)
                lease, tx = take_lease(db, connection_id, runtime.settings.lease_seconds)
                run = resume_or_open(tx, trigger)
                erased = load_erased(db, connection_id)
                return _SliceStart(found, lease, run, erased, load_starting_state(tx))
        except ServerUnavailable:
            if time.monotonic() >= until or is_stopping():
                raise
            time.sleep(0.5)


def _check_is_syncable(connection: Connection) -> None:
    if connection.status in (ConnectionStatus.ACTIVE, ConnectionStatus.BROKEN):
        return
    raise ResourceRefused(
        f"it is {connection.status}, so it is not synced"
        f"{f': {connection.status_reason}' if connection.status_reason else ''}",
        connection=connection.label,
    )


@contextlib.contextmanager
def _hold_lease(context: SliceContext) -> Iterator[None]:
    """Whatever happens, the lease does not outlive the slice."""
    database, lease = context.database, context.lease
    try:
        yield
    except ServerUnavailable:
        _return_lease_when_up(database, lease)
        raise
    finally:
        # A lease that cannot be given back now lapses by itself.
        with contextlib.suppress(ServerUnavailable, RetryLater):
            if not context.is_lease_released:
                release_lease(database, lease)
            hit_failpoint("lease-released")


def _return_lease_when_up(database: Database, lease: Lease) -> None:
    """Once Postgres is there again, free the lease and have the connection due at once."""
    until = time.monotonic() + min(POSTGRES_WAIT_SECONDS, lease.seconds)
    while time.monotonic() < until and not is_stopping():
        with contextlib.suppress(ServerUnavailable, RetryLater):
            return_lease(database, lease)
            return
        time.sleep(0.5)


def _build_context(
    runtime: Runtime, beginning: _SliceStart, trigger: RunTrigger, request: SyncRequest | None
) -> SliceContext:
    known, began, contested = beginning.loaded
    policy, _ = apply_overrides(
        Policy.from_settings(runtime.settings), known.settings.get(METADATA_KEY)
    )
    address = ConnectionRef(known.nango_connection_id, known.provider_config_key)
    session = SliceContext(
        database=runtime.database,
        lease=beginning.lease,
        connection=known,
        run=beginning.run,
        client=GraphClient(
            runtime.nango,
            address,
            lane=RunTrigger.MANUAL if request else _choose_lane(trigger, beginning.run),
            tenant_id=known.tenant_id,
        ),
        policy=policy,
        request=request or _build_request(known, began),
        is_foreground=request is not None,
        started_at=began,
        call_seconds=runtime.settings.call_seconds,
        retry_seconds=runtime.settings.retry_seconds,
        erased=beginning.erased,
        is_tenant_shared=contested,
    )
    session.client.before_send = session.ensure_lease
    return session


def _choose_lane(trigger: RunTrigger, run: Run) -> RunTrigger:
    """The lane of a slice's calls: a first load keeps its own until its run has ended.

    A person who asks for the connection meanwhile does not wait for the share of first loads.
    """
    adopted = trigger is RunTrigger.SCHEDULED and run.trigger is RunTrigger.BACKFILL
    return RunTrigger.BACKFILL if adopted else trigger


def _build_request(connection: Connection, now: datetime) -> SyncRequest:
    if connection.requested_at is None:
        return SyncRequest(requested_at=now)
    wanted = connection.requested_resources
    return SyncRequest(
        requested_at=connection.requested_at,
        manual=True,
        resources=frozenset(wanted) if wanted else None,
        full=connection.requested_full,
    )


def run_to_end(
    runtime: Runtime,
    connection_id: int,
    request: SyncRequest,
    *,
    on_progress: OnProgress = ignore_progress,
) -> SyncReport:
    """Sync here and now, whatever the clocks say; waits where a budget is spent, and tells so.

    Raises as ``run_slice``.
    """
    while True:
        report = run_slice(
            runtime,
            connection_id,
            trigger=RunTrigger.MANUAL,
            request=request,
            on_progress=on_progress,
        )
        if report.state is not RunState.RUNNING or is_stopping():
            return report
        on_progress("", ceil(report.retry_after), report.message or "it waits")
        time.sleep(max(0.05, report.retry_after))
