"""Housekeeping, once an hour: partitions ahead, tombstones and events past their keep."""

from celery import shared_task

from worker.core.log import logger
from worker.events.partitions import drop_partitions, ensure_partitions
from worker.store.purge import purge_deleted, purge_runs
from worker.tasks.base import kit, told


@shared_task(name="maintenance.hourly")
def hourly() -> None:
    with told("maintenance"):
        mine = kit()
        with mine.database.begin() as connection:
            made = ensure_partitions(connection)
            dropped = drop_partitions(connection, mine.settings.events_days)
        purged = purge_deleted(mine.database, mine.settings.purge_days)
        purge_runs(mine.database)
        logger().info("kept house", made=made, dropped=dropped, purged=purged)
