"""Carry out operations, connection by connection.

Each connection is done in the transaction that records it, under the lock of its row, so that two
processes never do it twice. An approval takes several; it continues after an interruption. A
process that is killed loses its hold, and a tick sends the operation to another one.
"""

import time
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any, Final

import sqlalchemy as sa

from models.audit import AuditAction, AuditOutcome
from models.operation import Action, TargetState
from worker.core.errors import (
    ExpectationChanged,
    MirrorError,
    RetryLater,
    ServerUnavailable,
)
from worker.core.process.failpoints import hit_failpoint
from worker.operations.audit import AuditedAction, describe_error, is_refusal
from worker.operations.pause import pause, resume
from worker.operations.request import (
    DecisionParameters,
    Parameters,
    PauseParameters,
    ResyncParameters,
    parse_parameters,
)
from worker.operations.submit import refuse_impossible
from worker.store.engine import Database
from worker.store.lease import Transaction, get_holder_name, interrupt_writer_in
from worker.store.state.connections import Connection, get_connection, request_resync
from worker.store.state.operations import (
    Operation,
    claim_operation,
    finish_operation,
    finish_target,
    get_operation,
    list_targets,
    lock_target,
    release_operation,
    renew_operation,
    save_target_result,
)
from worker.store.sweep.held import mark_approved
from worker.sync.finish.approve import (
    check_expectation,
    delete_approved,
    describe_counts,
    drop_held,
)

HOLD_SECONDS: Final = 60.0
"""Seconds for which a process keeps an operation; each connection that is done renews it."""

OnTarget = Callable[[int, TargetState, str], None]
"""Called after each connection with its id, state and what became of it."""


OnRows = Callable[[int], None]
"""Called after each batch of an approval with the number of rows deleted so far."""


def ignore_target(_connection_id: int, _state: TargetState, _detail: str) -> None:
    """Ignore the progress of an operation."""


def ignore_rows(_deleted: int) -> None:
    """Ignore the progress of an approval."""


def execute(
    database: Database,
    operation_id: int,
    *,
    seconds: float | None = None,
    should_stop: Callable[[], bool] = lambda: False,
) -> bool:
    """Carry out an operation for at most ``seconds`` (None: to its end).

    Returns whether nothing is left to do for this process: it is done, or another process holds
    it. Raises ServerUnavailable and RetryLater, after which another process continues.
    """
    with database.open_transaction() as db:
        if not claim_operation(db, operation_id, get_holder_name(), HOLD_SECONDS):
            return True
        operation = get_operation(db, operation_id)
    return _Execution(database, operation, seconds=seconds, should_stop=should_stop).run()


def execute_held(
    database: Database, operation: Operation, on_target: OnTarget, on_rows: OnRows
) -> None:
    """Carry out an operation that was submitted for this process."""
    _Execution(database, operation, on_target=on_target, on_rows=on_rows).run()


class _Execution:
    """One process's work on an operation."""

    def __init__(
        self,
        database: Database,
        operation: Operation,
        *,
        seconds: float | None = None,
        should_stop: Callable[[], bool] = lambda: False,
        on_target: OnTarget = ignore_target,
        on_rows: OnRows = ignore_rows,
    ) -> None:
        self._database = database
        self._operation = operation
        self._holder = get_holder_name()
        self._deadline = None if seconds is None else time.monotonic() + seconds
        self._is_stopping = should_stop
        self._on_target = on_target
        self._on_rows = on_rows
        self._parameters = parse_parameters(operation.action, operation.parameters)

    def run(self) -> bool:
        """Do one connection after the other; return whether nothing is left for this process."""
        while True:
            with self._database.open_transaction() as db:
                if not renew_operation(db, self._operation.id, self._holder, HOLD_SECONDS):
                    return True
                waiting = list_targets(db, self._operation.id, limit=1, state=TargetState.QUEUED)
                if not waiting:
                    finish_operation(db, self._operation.id)
                    return True
            if self._should_stop() or not self._do_target(waiting[0].connection_id):
                with self._database.open_transaction() as db:
                    release_operation(db, self._operation.id, self._holder)
                return False
            hit_failpoint("operation-target")

    def _should_stop(self) -> bool:
        is_late = self._deadline is not None and time.monotonic() >= self._deadline
        return is_late or self._is_stopping()

    def _do_target(self, connection_id: int) -> bool:
        """Do one connection; return False if its work was interrupted."""
        try:
            if isinstance(self._parameters, DecisionParameters):
                return self._decide(connection_id, self._parameters)
            self._do_at_once(connection_id, self._parameters)
        except (ServerUnavailable, RetryLater):
            raise
        except Exception as error:
            self._fail(connection_id, error)
            if not isinstance(error, MirrorError):
                raise
        return True

    def _do_at_once(self, connection_id: int, parameters: Parameters) -> None:
        with self._database.open_transaction() as db:
            if lock_target(db, self._operation.id, connection_id) is None:
                return
            connection = get_connection(db, connection_id)
            refuse_impossible(self._operation.action, connection)
            detail, result = _apply(db, connection, parameters, by=self._operation.actor)
            self._finish(db, connection, detail, result)
        self._on_target(connection_id, TargetState.DONE, detail)

    def _decide(self, connection_id: int, parameters: DecisionParameters) -> bool:
        """Approve or reject what is held; return False if the deletion was interrupted."""
        with self._database.open_transaction() as db:
            target = lock_target(db, self._operation.id, connection_id)
            if target is None:
                return True
            connection = get_connection(db, connection_id)
            if not target.result:
                with interrupt_writer_in(db, connection_id) as tx:
                    held = check_expectation(db, connection, parameters.expected)
                    counts = {one.resource: one.count for one in held}
                    self._decide_held(tx, connection, counts)
        hit_failpoint("operation-decided")
        return self._operation.action is Action.REJECT or self._delete_approved(connection)

    def _decide_held(
        self, tx: Transaction, connection: Connection, counts: Mapping[str, int]
    ) -> None:
        """Drop what is held, or mark it for the batches that follow."""
        if self._operation.action is Action.APPROVE:
            mark_approved(tx)
            marked = {"approved": dict(counts), "deleted": {}}
            save_target_result(tx.db, self._operation.id, connection.id, marked)
            return
        drop_held(tx)
        detail = f"{describe_counts(counts)} rejected; everything is read again"
        self._finish(tx.db, connection, detail, {"rejected": dict(counts)})
        self._on_target(connection.id, TargetState.DONE, detail)

    def _delete_approved(self, connection: Connection) -> bool:
        done = delete_approved(
            self._database,
            connection.id,
            on_deleted=self._add_deleted,
            should_stop=self._should_stop,
        )
        if not done:
            return False
        with self._database.open_transaction() as db:
            target = lock_target(db, self._operation.id, connection.id)
            if target is None or target.result is None:
                return True
            detail = f"{describe_counts(target.result['deleted'])} deleted"
            self._finish(db, connection, detail, target.result)
        self._on_target(connection.id, TargetState.DONE, detail)
        return True

    def _add_deleted(self, tx: Transaction, rows: Counter[str]) -> None:
        """Count the rows of a batch in its transaction, and keep the operation."""
        target = lock_target(tx.db, self._operation.id, tx.connection_id)
        if target is None or target.result is None:
            return
        deleted = Counter(target.result["deleted"]) + rows
        result = {**target.result, "deleted": dict(deleted)}
        save_target_result(tx.db, self._operation.id, tx.connection_id, result)
        renew_operation(tx.db, self._operation.id, self._holder, HOLD_SECONDS)
        self._on_rows(deleted.total())

    def _finish(
        self, db: sa.Connection, connection: Connection, detail: str, result: Mapping[str, Any]
    ) -> None:
        finish_target(
            db,
            self._operation.id,
            connection.id,
            TargetState.DONE,
            detail=detail,
            result=result,
        )
        self._build_entry(connection, detail).record(db)

    def _fail(self, connection_id: int, error: Exception) -> None:
        detail = describe_error(error)
        result = {"held": error.current} if isinstance(error, ExpectationChanged) else None
        with self._database.open_transaction() as db:
            if lock_target(db, self._operation.id, connection_id) is None:
                return
            outcome = AuditOutcome.REFUSED if is_refusal(error) else AuditOutcome.FAILED
            self._build_entry(get_connection(db, connection_id), detail).record(db, outcome)
            finish_target(
                db,
                self._operation.id,
                connection_id,
                TargetState.FAILED,
                detail=detail,
                result=result,
            )
        self._on_target(connection_id, TargetState.FAILED, detail)

    def _build_entry(self, connection: Connection, detail: str) -> AuditedAction:
        return AuditedAction(
            self._operation.who,
            AuditAction(self._operation.action.value),
            connection=connection,
            parameters=self._operation.parameters,
            detail=detail,
            operation_id=self._operation.id,
        )


def _apply(
    db: sa.Connection, connection: Connection, parameters: Parameters, *, by: str
) -> tuple[str, dict[str, Any]]:
    """Apply an action of one transaction; return what was done, in words and for programs."""
    if isinstance(parameters, ResyncParameters):
        asked = request_resync(
            db, connection.id, list(parameters.resources) or None, full=parameters.full
        )
        detail = "requested; a worker usually starts it within seconds"
        if connection.is_operator_paused:
            detail = "requested; it starts when the pause ends"
        return detail, {"requested_at": asked.isoformat()}
    if isinstance(parameters, PauseParameters):
        done = pause(db, connection, by=by, reason=parameters.reason, until=parameters.until)
        return done, {"was_paused": connection.is_operator_paused}
    return resume(db, connection), {"was_paused": connection.is_operator_paused}
