"""The task that carries out an operation, and the message that asks for it.

The message is a hint: a tick finds every operation that nobody carries out.
"""

from typing import Final

from celery import shared_task

from worker.core.errors import MirrorError
from worker.core.log import get_logger
from worker.core.process.shutdown import is_stopping
from worker.operations.execute import execute
from worker.operations.progress import QUEUE
from worker.operations.submit import HINT_SECONDS
from worker.store.orphaned_leases import free_orphaned_operations
from worker.store.state.operations import claim_waiting_operations
from worker.sync.runtime import Runtime
from worker.tasks.base import get_runtime, log_task, send_task

SLICE_SECONDS: Final = 45.0
"""Seconds after which a process makes room for other work; the rest is another message."""


@shared_task(name="operations.run")
def run_operation(operation_id: int) -> None:
    """Carry out an operation within the time of a slice, and send the rest again."""
    with log_task("operation", operation_id=operation_id):
        is_over = execute(
            get_runtime().database,
            operation_id,
            seconds=SLICE_SECONDS,
            should_stop=is_stopping,
        )
        if not is_over:
            hint_operation(operation_id)


def hint_operation(operation_id: int) -> None:
    """Tell the workers of an operation; if that fails, a tick does it soon."""
    try:
        send_task(run_operation, QUEUE, operation_id)
    except MirrorError as error:
        get_logger().warning(
            "message of an operation not sent; a tick sends it again",
            operation_id=operation_id,
            reason=str(error),
        )


def send_waiting_operations(runtime: Runtime) -> None:
    """Tell the workers of operations whose message or process was lost."""
    with runtime.database.open_transaction() as db:
        free_orphaned_operations(db)
        waiting = claim_waiting_operations(db, HINT_SECONDS)
    for operation_id in waiting:
        hint_operation(operation_id)
