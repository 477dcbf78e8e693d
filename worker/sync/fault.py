"""A slice that ended in a fault of ours: close its run, and wait before the next attempt."""

from datetime import timedelta

from models.run import RunState, RunTrigger
from worker.core.log import logger
from worker.store.connections import put_off
from worker.store.engine import Database, sql_state
from worker.store.lease import Transaction, release_with, take
from worker.store.runs import add_to_run, failures_in_a_row, finish_run, resume_or_open
from worker.store.streams import Tally
from worker.sync.ending import tell_walks
from worker.sync.session import Session

FIRST_PAUSE = 300
"""Seconds until the next attempt after the first fault; doubled for each further failure."""

LONGEST_PAUSE = 6 * 3600
"""Seconds until the next attempt at most."""


def close_after_fault(session: Session, fault: Exception, calls: int) -> None:
    """Close the run as failed and move the next attempt, in one transaction under the lease.

    The caller raises ``fault`` again, so an error here is only logged: by its type, because its
    message may hold rows as well.
    """
    if session.released:
        return
    try:
        _close(session, _description(fault), calls)
    except Exception as problem:  # noqa: BLE001 - the caller raises the first fault
        logger().warning(
            "the run of a failed slice could not be closed",
            run=session.run.id,
            reason=_kind(problem),
        )


def record_failed_start(
    database: Database,
    connection_id: int,
    trigger: RunTrigger,
    fault: Exception,
    *,
    by_hand: bool,
    seconds: float,
) -> None:
    """Record the fault of a slice that could not begin as its run; logged where that fails too.

    ``seconds`` is how long a lease lasts. The caller raises ``fault`` again.
    """
    try:
        with database.begin() as connection:
            lease, tx = take(connection, connection_id, seconds)
            run = resume_or_open(tx, trigger)
            walks = add_to_run(tx, run, Tally(), 0)
            finish_run(tx, run, RunState.FAILED, error=_description(fault))
            tell_walks(tx, run.id, walks)
            if not by_hand:
                now = tx.now()
                put_off(tx, now + _pause(tx), now, done=False)
            release_with(connection, lease)
    except Exception as problem:  # noqa: BLE001 - the caller raises the first fault
        logger().warning("a slice that could not begin was not recorded", reason=_kind(problem))


def pause_after(failures: int) -> int:
    """Seconds to wait after so many failures in a row, the newest included."""
    doublings = min(max(failures, 1) - 1, _MOST_DOUBLINGS)
    return min(LONGEST_PAUSE, FIRST_PAUSE << doublings)


_MOST_DOUBLINGS = (LONGEST_PAUSE // FIRST_PAUSE).bit_length()
"""After so many, the pause is the longest one."""


def _close(session: Session, error: str, calls: int) -> None:
    with session.ending() as tx:
        walks = add_to_run(tx, session.run, session.tally, calls)
        finish_run(tx, session.run, RunState.FAILED, error=error)
        tell_walks(tx, session.run.id, walks)
        if not session.by_hand:
            put_off(tx, session.moment + _pause(tx), session.order.since, done=False)


def _pause(tx: Transaction) -> timedelta:
    return timedelta(seconds=pause_after(failures_in_a_row(tx, limit=_MOST_DOUBLINGS + 1)))


def _description(fault: Exception) -> str:
    """What is stored and shown. Never the message: it may hold rows or personal data."""
    return f"a fault of Tenant Mirror ({_kind(fault)}); its log has the traceback"


def _kind(fault: Exception) -> str:
    state = sql_state(fault)
    name = type(fault).__name__
    return f"{name}, SQL state {state}" if state else name
