"""The tick: claim due connections in the database, then send one message for each.

A lost message costs one claim; two accidental beats claim different connections.
"""

from celery import shared_task

from worker.core.errors import ConfigurationError
from worker.core.log import get_logger
from worker.core.process.failpoints import hit_failpoint
from worker.delivery.store.rewind import rewind_if_restored
from worker.nango.client import NangoClient
from worker.nango.health import is_silent
from worker.operations.pause import end_expired_pauses
from worker.store.counters import flush_counts
from worker.store.service.facts import (
    note_halt,
)
from worker.store.service.maintenance import claim_maintenance_message
from worker.store.service.tick import claim_tick, shift_timers_back
from worker.sync.connections.discover import discover
from worker.sync.connections.pauses import end_paused_runs
from worker.sync.runtime import Runtime
from worker.tasks.base import get_runtime, log_task, send_task
from worker.tasks.dispatch import (
    claim_due_connections,
)
from worker.tasks.maintenance import hourly
from worker.tasks.operations import send_waiting_operations
from worker.tasks.sync import sync_slice

CLOCK_SET_BACK_MESSAGE = "Postgres's clock was set back; pending timers were shifted with it"

APPROVE_HINT = "correct NANGO_SECRET_KEY, or run 'tenant-mirror connections approve-missing'"


@shared_task(name="schedule.tick")
def tick() -> None:
    """Claim and dispatch due connections, and start discovery and maintenance if they are due.

    A tick that comes late, or soon after another one, costs a statement.
    """
    with log_task("tick"):
        runtime = get_runtime()
        if not try_claim_tick(runtime):
            return
        with log_task("epoch check"):
            rewind_if_restored(runtime.database)
        with log_task("maintenance dispatch"):
            with runtime.database.open_transaction() as db:
                is_due = claim_maintenance_message(db)
            if is_due:
                send_task(hourly, "maintenance")
        with log_task("pauses"):
            end_expired_pauses(runtime.database)
            end_paused_runs(runtime.database)
        with log_task("operations"):
            send_waiting_operations(runtime)
        if _should_ask_nango(runtime.nango):
            send_task(ask_nango, "maintenance")
        claimed, looks = claim_due_connections(runtime)
        if claimed:
            hit_failpoint("claimed")
        if looks:
            send_task(discover_connections, "maintenance")
        for connection_id, trigger in claimed:
            send_task(sync_slice, trigger.value, connection_id, trigger.value)
        if claimed:
            hit_failpoint("dispatched")
            get_logger().info("slices dispatched", connection_count=len(claimed))


def try_claim_tick(runtime: Runtime) -> bool:
    """Whether to run a tick now, by Postgres's clock; True for one caller only."""
    with runtime.database.open_transaction() as db:
        seconds = claim_tick(db, runtime.settings.tick_seconds / 2)
        if seconds:
            shift_timers_back(db, seconds)
    if seconds:
        get_logger().error(CLOCK_SET_BACK_MESSAGE, set_back_seconds=round(seconds))
    return seconds is not None


def _should_ask_nango(nango: NangoClient) -> bool:
    """Whether it is time to check if Nango works: in an outage, or when it is silent."""
    state, now = nango.limiter.health.read()
    return (state.is_out or is_silent(state, now)) and nango.breaker.claim_check()


@shared_task(name="schedule.ask_nango")
def ask_nango() -> None:
    """Check if Nango works, and share the result with all processes."""
    with log_task("Nango health check"):
        runtime = get_runtime()
        error = runtime.nango.breaker.check_nango()
        if isinstance(error, ConfigurationError):
            with runtime.database.open_transaction() as db:
                note_halt(db, error.message)
            raise error


@shared_task(name="schedule.discover")
def discover_connections() -> None:
    """Apply Nango's list of connections."""
    with log_task("discovery"):
        runtime = get_runtime()
        found = discover(runtime.database, runtime.nango, runtime.settings)
        flush_counts(runtime.database, runtime.nango.counts)
        if found.held:
            get_logger().error(
                "retirement of missing connections held", reason=found.held, hint=APPROVE_HINT
            )
        if any(value for name, value in vars(found).items() if name != "listed"):
            get_logger().info(
                "connections changed",
                enrolled=found.enrolled,
                retired=found.retired,
                returned=found.returned,
                rescheduled=found.woken,
                unreadable_rows=found.unreadable,
                unconfirmed=found.unconfirmed,
                setting_problems=found.problems,
            )
