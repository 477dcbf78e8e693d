"""A run: bring one connection up to date, slice by slice.

A slice takes the lease, resumes or opens the run, syncs the streams, and records the result.
"""

import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from math import ceil

from models.connection import ConnectionStatus
from models.counter import CounterName
from models.run import RunState, RunTrigger
from worker.core.errors import (
    ConfigurationError,
    ConnectionBroken,
    LeaseLost,
    MirrorError,
    ResourceRefused,
    RetryLater,
    ServerUnavailable,
    StateConflict,
)
from worker.core.process.failpoints import hit_failpoint
from worker.core.process.shutdown import is_stopping
from worker.graph.client import GraphClient
from worker.nango.client import ConnectionRef
from worker.store.counters import flush_counts
from worker.store.engine import Database
from worker.store.lease import Lease, release_lease, return_lease, take_lease
from worker.store.state.connections import Connection, SliceConnection, load_for_slice
from worker.store.state.erasures import ErasedObjects, load_erased
from worker.store.state.pauses import describe_pause
from worker.store.state.runs import Run, resume_or_open
from worker.sync.connections.nango_key import restore_key_health
from worker.sync.context import OnProgress, SliceContext, ignore_progress
from worker.sync.failure import fail_run, record_failed_start
from worker.sync.plan import SyncRequest
from worker.sync.policy import load_policy
from worker.sync.report import SyncReport, abort_slice, finish_slice
from worker.sync.runtime import Runtime
from worker.sync.slice import StartingState, load_starting_state, sync_streams

POSTGRES_WAIT_SECONDS = 60.0
"""Seconds that a slice waits for Postgres to return, so as to release its lease at once."""


def run_slice(
    runtime: Runtime,
    connection_id: int,
    *,
    trigger: RunTrigger,
    request: SyncRequest | None = None,
    seconds: float | None = None,
    on_progress: OnProgress = ignore_progress,
) -> SyncReport:
    """Sync a connection for at most ``seconds`` (None: until it is done).

    Without a ``request``, the schedule and an operator's stored request decide. Raises LeaseHeld
    (another process holds the lease), StateConflict (the connection is not to be synced),
    NotFound, ServerUnavailable, ConfigurationError, StorageFull, LeaseLost. After any other
    exception, another MirrorError included, the run is closed as failed, and the exception is
    raised again.
    """
    try:
        start = _start_slice(runtime, connection_id, trigger, request)
    except MirrorError:
        raise
    except Exception as error:
        seconds, by_hand = runtime.settings.lease_seconds, request is not None
        record_failed_start(
            runtime.database,
            connection_id,
            trigger,
            error,
            is_foreground=by_hand,
            lease_seconds=seconds,
        )
        raise
    hit_failpoint("lease-taken")
    calls = runtime.nango.calls
    context = _build_context(runtime, start, trigger, request)
    context.on_progress = on_progress
    with _hold_lease(context):
        hit_failpoint("run-opened")
        try:
            return _run_slice_to_report(runtime, context, start.starting_state, seconds, calls)
        except LeaseLost:
            _count_lost_lease(context)
            raise
        except ServerUnavailable:
            raise
        except Exception as error:
            fail_run(context, error, runtime.nango.calls - calls)
            raise


def _run_slice_to_report(
    runtime: Runtime,
    context: SliceContext,
    starting_state: StartingState,
    seconds: float | None,
    calls: int,
) -> SyncReport:
    """Sync the streams and record the result of the slice."""
    try:
        outcome = sync_streams(context, starting_state, seconds=seconds)
    except (ConnectionBroken, RetryLater, ResourceRefused, ConfigurationError) as error:
        return abort_slice(context, error, runtime.nango.calls - calls)
    return finish_slice(context, outcome, runtime.nango.calls - calls)


@dataclass(frozen=True)
class _SliceStart:
    """The state that a slice starts with."""

    loaded: SliceConnection
    lease: Lease
    run: Run
    erased: ErasedObjects
    starting_state: StartingState


def _start_slice(
    runtime: Runtime, connection_id: int, trigger: RunTrigger, request: SyncRequest | None
) -> _SliceStart:
    """Take the lease, open or resume the run, and load the state: all or nothing.

    A worker waits while Postgres is unavailable, so that the slice keeps its claim. Raises
    ServerUnavailable, NotFound, StateConflict, LeaseHeld.
    """
    until = time.monotonic() + (0.0 if request else POSTGRES_WAIT_SECONDS)
    while True:
        try:
            with runtime.database.open_transaction() as db:
                restore_key_health(db, runtime.nango)
                start_rows = load_for_slice(db, connection_id)
                _check_is_syncable(start_rows.connection, request)
                lease, tx = take_lease(db, connection_id, runtime.settings.lease_seconds)
                run = resume_or_open(tx, trigger)
                erased = load_erased(db, connection_id)
                return _SliceStart(start_rows, lease, run, erased, load_starting_state(tx))
        except ServerUnavailable:
            if time.monotonic() >= until or is_stopping():
                raise
            time.sleep(0.5)


def _check_is_syncable(connection: Connection, request: SyncRequest | None) -> None:
    if connection.status in (ConnectionStatus.ACTIVE, ConnectionStatus.BROKEN):
        if connection.is_operator_paused and not (request and request.ignores_pause):
            hint = "; 'sync --even-if-paused' syncs it once" if request else ""
            raise StateConflict(f"{describe_pause(connection)}{hint}", connection=connection.label)
        return
    raise StateConflict(
        f"it is {connection.status}, so it is not synced"
        f"{f': {connection.status_reason}' if connection.status_reason else ''}",
        connection=connection.label,
    )


def _count_lost_lease(context: SliceContext) -> None:
    """Count it at once, as no transaction of this slice will."""
    context.counts.add(CounterName.LEASE_LOSSES)
    with contextlib.suppress(ServerUnavailable, RetryLater):
        flush_counts(context.database, context.counts)


@contextlib.contextmanager
def _hold_lease(context: SliceContext) -> Iterator[None]:
    """Release the lease when the slice ends, even by an error."""
    database, lease = context.database, context.lease
    try:
        yield
    except ServerUnavailable:
        _return_lease_when_up(database, lease)
        raise
    finally:
        # A lease that cannot be released now expires by itself.
        with contextlib.suppress(ServerUnavailable, RetryLater):
            if not context.is_lease_released:
                release_lease(database, lease)
            hit_failpoint("lease-released")


def _return_lease_when_up(database: Database, lease: Lease) -> None:
    """Release the lease once Postgres is back, and make the connection due at once."""
    until = time.monotonic() + min(POSTGRES_WAIT_SECONDS, lease.seconds)
    while time.monotonic() < until and not is_stopping():
        with contextlib.suppress(ServerUnavailable, RetryLater):
            return_lease(database, lease)
            return
        time.sleep(0.5)


def _build_context(
    runtime: Runtime, start: _SliceStart, trigger: RunTrigger, request: SyncRequest | None
) -> SliceContext:
    connection, began, contested = start.loaded
    policy = load_policy(runtime.settings, connection.settings)
    address = ConnectionRef(connection.nango_connection_id, connection.provider_config_key)
    context = SliceContext(
        database=runtime.database,
        lease=start.lease,
        connection=connection,
        run=start.run,
        client=GraphClient(
            runtime.nango,
            address,
            lane=RunTrigger.MANUAL if request else _choose_lane(trigger, start.run),
            tenant_id=connection.tenant_id,
        ),
        policy=policy,
        request=request or _build_request(connection, began),
        is_foreground=request is not None,
        started_at=began,
        counts=runtime.nango.counts,
        call_seconds=runtime.settings.call_seconds,
        retry_seconds=runtime.settings.retry_seconds,
        erased=start.erased,
        is_tenant_shared=contested,
    )
    context.client.before_send = context.ensure_lease
    return context


def _choose_lane(trigger: RunTrigger, run: Run) -> RunTrigger:
    """Return the rate-limit lane of a slice: a first load keeps its own until its run has ended.

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
    """Sync now, regardless of the schedule; report and wait while a call budget is used up.

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
