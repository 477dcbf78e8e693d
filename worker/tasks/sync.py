"""The task that runs one slice of one connection."""

from celery import shared_task

from models.queues import BACKFILL
from models.run import RunTrigger
from worker.core.log import get_logger
from worker.core.process.shutdown import is_stopping
from worker.sync.run import run_slice
from worker.tasks.base import get_runtime, log_task, send_task
from worker.tasks.dispatch import claim_next


@shared_task(name="sync.slice")
def sync_slice(connection_id: int, trigger: str) -> None:
    """Sync a connection within the time limit of a slice."""
    try:
        _run_slice(connection_id, trigger)
    finally:
        if trigger == BACKFILL and not is_stopping():
            _send_first_loads()


def _send_first_loads() -> None:
    """Dispatch waiting first loads to the slot that a slice has freed."""
    with log_task("first load dispatch"):
        for connection_id in claim_next(get_runtime(after_discovery=True)):
            send_task(sync_slice, BACKFILL, connection_id, BACKFILL)


def _run_slice(connection_id: int, trigger: str) -> None:
    with log_task("sync", connection_id=connection_id, trigger=trigger):
        runtime = get_runtime(after_discovery=True)
        report = run_slice(
            runtime,
            connection_id,
            trigger=RunTrigger(trigger),
            seconds=runtime.settings.slice_seconds,
        )
        get_logger().info(
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
