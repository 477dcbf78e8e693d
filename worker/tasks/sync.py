"""One slice of one connection."""

from celery import shared_task

from models.run import RunTrigger
from worker.core.log import logger
from worker.sync.run import run_slice
from worker.tasks.base import kit, told


@shared_task(name="sync.slice")
def sync_slice(connection_id: int, trigger: str) -> None:
    """Bring a connection forward within the time budget of a slice."""
    with told("sync", connection=connection_id, trigger=trigger):
        mine = kit()
        report = run_slice(
            mine,
            connection_id,
            trigger=RunTrigger(trigger),
            seconds=mine.settings.slice_seconds,
        )
        logger().info(
            "slice done",
            state=report.state.value,
            calls=report.calls,
            pages=report.tally.pages,
            created=report.tally.created,
            updated=report.tally.updated,
            deleted=report.tally.deleted,
            restored=report.tally.restored,
            drift={name: line["drift"] for name, line in report.resources.items() if line["drift"]},
            reason=report.message,
        )
