"""Close the run of a slice that raised an unexpected error, and delay the next attempt."""

from datetime import timedelta

from models.run import RunState, RunTrigger
from worker.core.log import get_logger
from worker.store.counters import add_to_counters
from worker.store.engine import Database
from worker.store.errors import get_sql_state
from worker.store.lease import Transaction, release_lease_in, take_lease
from worker.store.state.connections import reschedule
from worker.store.state.runs import (
    Tally,
    add_to_run,
    count_consecutive_failures,
    finish_run,
    resume_or_open,
)
from worker.sync.context import SliceContext
from worker.sync.run_end import append_resynced_event

FIRST_FAILURE_PAUSE = 300
"""Seconds until the next attempt after the first failure; doubled for each further failure."""

MAX_FAILURE_PAUSE = 6 * 3600
"""Most seconds until the next attempt."""


def fail_run(context: SliceContext, error: Exception, calls: int) -> None:
    """Close the run as failed and delay the next attempt, in one transaction under the lease.

    The caller raises ``error`` again, so another error here is only logged: by its type, because
    its message may hold rows as well.
    """
    if context.is_lease_released:
        return
    try:
        _close(context, _describe_error(error), calls)
    except Exception as problem:  # noqa: BLE001 - the caller raises the first fault
        get_logger().warning(
            "failed run not closed",
            run_id=context.run.id,
            reason=_describe_type(problem),
        )


def record_failed_start(
    database: Database,
    connection_id: int,
    trigger: RunTrigger,
    error: Exception,
    *,
    is_foreground: bool,
    lease_seconds: float,
) -> None:
    """Record a failed run for a slice that could not start.

    ``lease_seconds`` is how long a lease lasts. The caller raises ``error`` again, so another error
    here is only logged.
    """
    try:
        with database.open_transaction() as db:
            lease, tx = take_lease(db, connection_id, lease_seconds)
            run = resume_or_open(tx, trigger)
            walks = add_to_run(tx, run, Tally(), 0)
            finish_run(tx, run, RunState.FAILED, error=_describe_error(error))
            append_resynced_event(tx, run.id, walks)
            if not is_foreground:
                now = tx.read_clock()
                reschedule(tx, now + _compute_pause(tx), now, done=False)
            release_lease_in(db, lease)
            add_to_counters(db, tx.counts.take())
    except Exception as problem:  # noqa: BLE001 - the caller raises the first fault
        get_logger().warning(
            "failed start of a slice not recorded",
            connection_id=connection_id,
            reason=_describe_type(problem),
        )


def compute_failure_pause(failures: int) -> int:
    """Return the seconds to wait after this many failures in a row, the newest included."""
    doublings = min(max(failures, 1) - 1, _MAX_DOUBLINGS)
    return min(MAX_FAILURE_PAUSE, FIRST_FAILURE_PAUSE << doublings)


_MAX_DOUBLINGS = (MAX_FAILURE_PAUSE // FIRST_FAILURE_PAUSE).bit_length()
"""Doublings after which the pause is ``MAX_FAILURE_PAUSE``."""


def _close(context: SliceContext, error: str, calls: int) -> None:
    with context.open_final_transaction() as tx:
        walks = add_to_run(tx, context.run, context.tally, calls)
        finish_run(tx, context.run, RunState.FAILED, error=error)
        append_resynced_event(tx, context.run.id, walks)
        if not context.is_foreground:
            reschedule(
                tx, context.now + _compute_pause(tx), context.request.requested_at, done=False
            )


def _compute_pause(tx: Transaction) -> timedelta:
    return timedelta(
        seconds=compute_failure_pause(count_consecutive_failures(tx, limit=_MAX_DOUBLINGS + 1))
    )


def _describe_error(error: Exception) -> str:
    """Return the text that is stored and shown, without the message: it may hold personal data."""
    return f"internal error of Tenant Mirror ({_describe_type(error)}); the log has the traceback"


def _describe_type(error: Exception) -> str:
    state = get_sql_state(error)
    name = type(error).__name__
    return f"{name}, SQL state {state}" if state else name
