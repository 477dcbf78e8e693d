"""Cancel an operation that waits for a worker."""

import sqlalchemy as sa

from models.audit import AuditAction
from models.operation import OperationState
from worker.core.errors import StateConflict
from worker.operations.audit import AuditedAction, record_errors
from worker.store.engine import Database
from worker.store.service.audit import Actor
from worker.store.state.cancelled_operations import cancel_queued_operation
from worker.store.state.connections import get_connections
from worker.store.state.operations import Operation, get_operation, list_targets


def cancel_operation(database: Database, actor: Actor, operation_id: int) -> Operation:
    """Cancel an operation that no process has begun, and return it; again, it changes nothing.

    Raises NotFound, and StateConflict if it was begun.
    """
    with database.open_transaction() as db:
        action = _build_entry(db, actor, get_operation(db, operation_id))
    with record_errors(database, action), database.open_transaction() as db:
        if get_operation(db, operation_id).state is not OperationState.CANCELLED:
            if not cancel_queued_operation(db, operation_id, f"cancelled by {actor.name}"):
                raise StateConflict(_explain_refusal(get_operation(db, operation_id)))
            action.record(db)
        return get_operation(db, operation_id)


def _build_entry(db: sa.Connection, actor: Actor, operation: Operation) -> AuditedAction:
    single = None
    if operation.targets == 1:
        targets = list_targets(db, operation.id, limit=1)
        known = get_connections(db, [one.connection_id for one in targets])
        single = known[0] if known else None
    return AuditedAction(
        actor,
        AuditAction.OPERATIONS_CANCEL,
        connection=single,
        subject=f"operation {operation.id}" if single is None else None,
        parameters={"action": operation.action.value, "asked_by": operation.actor},
        operation_id=operation.id,
    )


def _explain_refusal(operation: Operation) -> str:
    if operation.finished_at is not None:
        return f"operation {operation.id} has finished: it {operation.state}; nothing was cancelled"
    return (
        f"a process has begun operation {operation.id}, and only what waits can be cancelled; "
        "undo it with the opposite action when it is done"
    )
