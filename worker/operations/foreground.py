"""Carry out an operation in the process of a command: it needs no workers."""

from collections.abc import Iterator
from dataclasses import dataclass

from models.operation import TargetState
from worker.operations.execute import (
    HOLD_SECONDS,
    OnRows,
    OnTarget,
    execute_held,
    ignore_rows,
    ignore_target,
)
from worker.operations.request import OperationRequest
from worker.operations.submit import submit_or_record
from worker.store.engine import Database
from worker.store.lease import get_holder_name
from worker.store.service.audit import Actor
from worker.store.state.operations import Operation, Target, get_operation, list_targets

PAGE = 1000


@dataclass(frozen=True)
class Outcome:
    """An operation that was carried out, and what became of each connection."""

    operation: Operation
    targets: list[Target]

    @property
    def failed(self) -> list[Target]:
        """The connections for which it failed."""
        return [one for one in self.targets if one.state is TargetState.FAILED]


def carry_out(
    database: Database,
    actor: Actor,
    request: OperationRequest,
    on_target: OnTarget = ignore_target,
    on_rows: OnRows = ignore_rows,
) -> Outcome:
    """Submit an operation and carry it out here; if this process dies, a worker continues.

    Raises as ``submit``.
    """
    submitted = submit_or_record(
        database, actor, request, holder=get_holder_name(), hold_seconds=HOLD_SECONDS
    )
    execute_held(database, submitted.operation, on_target, on_rows)
    with database.open_transaction() as db:
        operation = get_operation(db, submitted.operation.id)
    return Outcome(operation, list(_iterate_targets(database, operation.id)))


def _iterate_targets(database: Database, operation_id: int) -> Iterator[Target]:
    after = 0
    while True:
        with database.open_transaction() as db:
            page = list_targets(db, operation_id, after=after, limit=PAGE)
        yield from page
        if len(page) < PAGE:
            return
        after = page[-1].connection_id
