"""Housekeeping: partitions ahead, tombstones and events past their keep.

A tick sends it where the last one ended an hour ago, by the database. Erasures that were
interrupted, or that waited for a sink, go on. A chore that fails is told and leaves the others
alone; the next hour tries it again.
"""

from collections.abc import Callable, Sequence
from typing import Any

from celery import shared_task

from models.sink import SinkStatus
from worker.core.log import logger
from worker.events.partitions import be_brief, ensure_partitions
from worker.events.retention import Fate, Outcome, let_go
from worker.store.housekeeping import finish_housekeeping, start_housekeeping
from worker.store.purge import purge_deleted, purge_runs
from worker.sync.erase import finish_erasures
from worker.sync.run import Kit
from worker.tasks.base import kit, told


@shared_task(name="maintenance.hourly")
def hourly() -> None:
    """Keep house, unless another process is at it or it has been done meanwhile."""
    with told("maintenance"):
        keep_house_if_due(kit())


def keep_house_if_due(mine: Kit) -> bool:
    """Whether it was due. A process that is killed leaves it due; one that met a bug does not."""
    with mine.database.begin() as connection:
        if not start_housekeeping(connection):
            return False
    try:
        keep_house(mine)
    except Exception:
        _finish(mine)
        raise
    _finish(mine)
    return True


def _finish(mine: Kit) -> None:
    with mine.database.begin() as connection:
        finish_housekeeping(connection)


def keep_house(mine: Kit) -> None:
    """Every chore, whatever becomes of the others. Raises the bugs that were met, at the end."""
    done: dict[str, Any] = {}
    bugs: list[Exception] = []
    for name, chore in CHORES.items():
        try:
            with told("maintenance", chore=name):
                done[name] = chore(mine)
        except Exception as bug:  # noqa: BLE001 - raised below, once the others are done
            bugs.append(bug)
    logger().info("kept house", **done)
    if bugs:
        raise ExceptionGroup("housekeeping", bugs)


def _made(mine: Kit) -> list[str]:
    with mine.database.begin() as connection:
        be_brief(connection)
        return ensure_partitions(connection)


def _dropped(mine: Kit) -> list[str]:
    settings = mine.settings
    outcomes = let_go(mine.database, settings.events_days, settings.events_grace_days)
    for outcome in outcomes:
        tell(outcome)
    return [one.month.label for one in outcomes if one.fate is Fate.DROPPED]


def _purged(mine: Kit) -> int:
    return purge_deleted(mine.database, mine.settings.purge_days)


def _runs(mine: Kit) -> int:
    return purge_runs(mine.database)


def _erased(mine: Kit) -> int:
    return finish_erasures(mine.database)


CHORES: dict[str, Callable[[Kit], Sequence[str] | int]] = {
    "made": _made,
    "dropped": _dropped,
    "purged": _purged,
    "runs": _runs,
    "erased": _erased,
}
"""By the name under which the log tells what was done."""


def tell(outcome: Outcome) -> None:
    """One line for each sink that a month is kept for, or that has lost events of it."""
    log = logger()
    if outcome.fate is Fate.BUSY:
        log.warning(
            "a month of events could not be dropped now: it is being read, and nobody is to wait",
            month=outcome.month.label,
        )
    for missed in outcome.missed:
        about = missed.told()
        if outcome.fate is Fate.DROPPED:
            log.error("events were dropped before a sink had them", **about, do=AFTERWARDS)
        elif missed.status is SinkStatus.ACTIVE:
            log.error(
                "events are kept past their days for a sink",
                **about,
                dropped_at=outcome.goes_at,
                do=BEFORE,
            )


BEFORE = "mend the receiver, or say 'tenant-mirror sinks pause' or 'sinks remove'"
AFTERWARDS = "'tenant-mirror events replay SINK --from snapshot' brings it up to date"
