"""The tick: claim what is due in the database, then send one message for each.

A message that is lost costs one claim; two beats by mistake claim different connections.
"""

from celery import shared_task

from models.run import RunTrigger
from worker.core.crash import crash_point
from worker.core.errors import Halt
from worker.core.log import logger
from worker.events.rewind import follow_server
from worker.nango.client import NangoClient
from worker.nango.health import is_silent
from worker.store.claims import claim_due, count_waiting
from worker.store.housekeeping import should_send_housekeeping
from worker.store.orphans import free_orphans
from worker.store.service import (
    is_halted,
    is_key_changed,
    note_halt,
    note_tick,
    should_discover,
)
from worker.store.tick_turn import follow_set_back, take_turn
from worker.sync.discover import discover
from worker.sync.run import Kit
from worker.tasks.base import kit, send, told
from worker.tasks.maintenance import hourly
from worker.tasks.places import CLAIM_GRACE, first_loads_allowed
from worker.tasks.sync import sync_slice

NEW_KEY_SECONDS = 15
"""Seconds between two readings of the list as long as a new key has not shown our connections."""

SET_BACK = "Postgres's clock was set back; what waits for a time of before waits for it no longer"

APPROVAL = "correct NANGO_SECRET_KEY, or run 'tenant-mirror connections approve-missing'"


@shared_task(name="schedule.tick")
def tick() -> None:
    """Claim what is due and send it on its way; read Nango's list, keep house where that is due.

    A tick that comes late, or soon after another one, costs a statement.
    """
    with told("tick"):
        mine = kit()
        if not takes_turn(mine):
            return
        with told("epoch"):
            follow_server(mine.database)
        with told("housekeeping"):
            with mine.database.begin() as connection:
                is_due = should_send_housekeeping(connection)
            if is_due:
                send(hourly, "maintenance")
        if _is_to_be_asked(mine.nango):
            send(ask_nango, "maintenance")
        claimed, looks = claim(mine)
        if claimed:
            crash_point("claimed")
        if looks:
            send(discover_connections, "maintenance")
        for connection_id, trigger in claimed:
            send(sync_slice, trigger.value, connection_id, trigger.value)
        if claimed:
            crash_point("dispatched")
            logger().info("dispatched", connections=len(claimed))


def takes_turn(mine: Kit) -> bool:
    """Whether a tick is to be run now, by Postgres's clock; True for one caller."""
    with mine.database.begin() as connection:
        seconds = take_turn(connection, mine.settings.tick_seconds / 2)
        if seconds:
            follow_set_back(connection, seconds)
    if seconds:
        logger().error(SET_BACK, seconds=round(seconds))
    return seconds is not None


def claim(mine: Kit) -> tuple[list[tuple[int, RunTrigger]], bool]:
    """What is due and has room in Nango's budget, and whether its list is to be read.

    Nothing while Nango itself does not work: what is due stays due. Nor before its list has been
    followed with a key that is new: it may be of another environment, which knows none of ours.
    """
    gate, settings = mine.nango.gate, mine.settings
    state, _ = gate.health.look()
    by_clock = gate.allowance(RunTrigger.SCHEDULED)
    first_loads = first_loads_allowed(mine)
    claimed: list[tuple[int, RunTrigger]] = []
    with mine.database.begin() as connection:
        note_tick(connection)
        free_orphans(connection)
        if state.is_out:
            return [], False
        new_key = is_key_changed(connection, gate.fingerprint)
        pause = settings.discovery_seconds
        if new_key:
            pause = min(pause, NEW_KEY_SECONDS)
        looks = should_discover(connection, pause)
        if not (new_key or is_halted(connection)):
            claimed = claim_due(
                connection,
                limit=settings.dispatch_limit,
                by_clock=by_clock,
                first_loads=first_loads,
                grace=CLAIM_GRACE,
            )
        sent = sum(trigger is RunTrigger.SCHEDULED for _, trigger in claimed)
        waiting = count_waiting(connection) if sent == by_clock else 0
    gate.admit(sent, waiting)
    return claimed, looks


def _is_to_be_asked(nango: NangoClient) -> bool:
    """Whether it is time for the question if Nango works: in an outage, or where all is silent."""
    state, now = nango.gate.health.look()
    return (state.is_out or is_silent(state, now)) and nango.diagnosis.takes_turn()


@shared_task(name="schedule.ask_nango")
def ask_nango() -> None:
    """Ask Nango the question if it works, and note the answer for all."""
    with told("ask Nango"):
        mine = kit()
        trouble = mine.nango.diagnosis.ask()
        if isinstance(trouble, Halt):
            with mine.database.begin() as connection:
                note_halt(connection, trouble.message)
            raise trouble


@shared_task(name="schedule.discover")
def discover_connections() -> None:
    """Follow Nango's list of connections."""
    with told("discover"):
        mine = kit()
        found = discover(mine.database, mine.nango, mine.settings)
        if found.held:
            logger().error("missing connections are held", reason=found.held, do=APPROVAL)
        if any(value for name, value in vars(found).items() if name != "listed"):
            logger().info(
                "connections changed",
                enrolled=found.enrolled,
                retired=found.retired,
                returned=found.returned,
                woken=found.woken,
                unreadable=found.unreadable,
                unconfirmed=found.unconfirmed,
                problems=found.problems,
            )
