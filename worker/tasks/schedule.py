"""The tick: claim what is due in the database, then send one message for each.

A message that is lost costs one claim; two beats by mistake claim different connections.
"""

from celery import shared_task

from worker.core.errors import ConfigurationError
from worker.core.log import get_logger
from worker.core.process.failpoints import hit_failpoint
from worker.delivery.store.rewind import rewind_if_restored
from worker.nango.client import NangoClient
from worker.nango.health import is_silent
from worker.store.service.facts import (
    note_halt,
)
from worker.store.service.maintenance import claim_maintenance_message
from worker.store.service.tick import claim_tick, shift_timers_back
from worker.sync.connections.discover import discover
from worker.sync.runtime import Runtime
from worker.tasks.base import get_runtime, log_task, send_task
from worker.tasks.dispatch import (
    claim_due_connections,
)
from worker.tasks.maintenance import hourly
from worker.tasks.sync import sync_slice

CLOCK_SET_BACK_MESSAGE = (
    "Postgres's clock was set back; what waits for a time of before waits for it no longer"
)

APPROVE_HINT = "correct NANGO_SECRET_KEY, or run 'tenant-mirror connections approve-missing'"


@shared_task(name="schedule.tick")
def tick() -> None:
    """Claim what is due and send it on its way; read Nango's list, keep house where that is due.

    A tick that comes late, or soon after another one, costs a statement.
    """
    with log_task("tick"):
        mine = get_runtime()
        if not try_claim_tick(mine):
            return
        with log_task("epoch"):
            rewind_if_restored(mine.database)
        with log_task("housekeeping"):
            with mine.database.open_transaction() as db:
                is_due = claim_maintenance_message(db)
            if is_due:
                send_task(hourly, "maintenance")
        if _should_ask_nango(mine.nango):
            send_task(ask_nango, "maintenance")
        claimed, looks = claim_due_connections(mine)
        if claimed:
            hit_failpoint("claimed")
        if looks:
            send_task(discover_connections, "maintenance")
        for connection_id, trigger in claimed:
            send_task(sync_slice, trigger.value, connection_id, trigger.value)
        if claimed:
            hit_failpoint("dispatched")
            get_logger().info("dispatched", connections=len(claimed))


def try_claim_tick(runtime: Runtime) -> bool:
    """Whether a tick is to be run now, by Postgres's clock; True for one caller."""
    with runtime.database.open_transaction() as db:
        seconds = claim_tick(db, runtime.settings.tick_seconds / 2)
        if seconds:
            shift_timers_back(db, seconds)
    if seconds:
        get_logger().error(CLOCK_SET_BACK_MESSAGE, seconds=round(seconds))
    return seconds is not None


def _should_ask_nango(nango: NangoClient) -> bool:
    """Whether it is time for the question if Nango works: in an outage, or where all is silent."""
    state, now = nango.limiter.health.read()
    return (state.is_out or is_silent(state, now)) and nango.breaker.claim_check()


@shared_task(name="schedule.ask_nango")
def ask_nango() -> None:
    """Ask Nango the question if it works, and note the answer for all."""
    with log_task("ask Nango"):
        mine = get_runtime()
        trouble = mine.nango.breaker.check_nango()
        if isinstance(trouble, ConfigurationError):
            with mine.database.open_transaction() as db:
                note_halt(db, trouble.message)
            raise trouble


@shared_task(name="schedule.discover")
def discover_connections() -> None:
    """Follow Nango's list of connections."""
    with log_task("discover"):
        mine = get_runtime()
        found = discover(mine.database, mine.nango, mine.settings)
        if found.held:
            get_logger().error("missing connections are held", reason=found.held, do=APPROVE_HINT)
        if any(value for name, value in vars(found).items() if name != "listed"):
            get_logger().info(
                "connections changed",
                enrolled=found.enrolled,
                retired=found.retired,
                returned=found.returned,
                woken=found.woken,
                unreadable=found.unreadable,
                unconfirmed=found.unconfirmed,
                problems=found.problems,
            )
