"""Submit an operation: it, its connections and its entry in the audit, in one transaction."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import sqlalchemy as sa

from models.audit import AuditAction, AuditOutcome
from models.connection import ConnectionStatus
from models.operation import Action
from worker.core.errors import ExpectationChanged, InvalidInput, NotFound, StateConflict
from worker.core.time_text import render_count
from worker.operations.audit import AuditedAction, record_errors
from worker.operations.pause import check_pause
from worker.operations.request import (
    SINGLE_ACTIONS,
    DecisionParameters,
    OperationRequest,
    PauseParameters,
)
from worker.store.engine import Database
from worker.store.service.audit import Actor
from worker.store.state.connections import SYNCED_STATUSES, Connection, get_connections
from worker.store.state.operations import (
    IdempotencyKey,
    Operation,
    find_by_key,
    get_operation,
    insert_operation,
)
from worker.sync.finish.approve import check_expectation

HINT_SECONDS: Final = 15.0
"""Seconds after which a tick sends the message of an operation again."""

MAX_TARGETS: Final = 100_000


@dataclass(frozen=True)
class Submitted:
    """An operation, and whether this request created it."""

    operation: Operation
    is_new: bool


class KeyReused(InvalidInput):
    """An idempotency key came with another request before."""


def submit(
    db: sa.Connection,
    actor: Actor,
    request: OperationRequest,
    *,
    key: IdempotencyKey | None = None,
    holder: str | None = None,
    hold_seconds: float = HINT_SECONDS,
) -> Submitted:
    """Store an operation for the workers, or for the process ``holder``.

    Of a request that came before with the same key, the operation is returned. Raises KeyReused if
    that key came with another request, ExpectationChanged if the confirmed number or the held
    deletions have changed, StateConflict if the only connection does not allow it, NotFound,
    InvalidInput.
    """
    known = find_by_key(db, actor, key) if key else None
    if known is None:
        connections = _check_request(db, request)
        operation_id = insert_operation(
            db,
            actor,
            request.action,
            request.build_stored_parameters(),
            [one.id for one in connections],
            key=key,
            holder=holder,
            seconds=hold_seconds,
        )
        if operation_id is not None:
            entry = _build_entry(actor, request, connections)
            entry.operation_id = operation_id
            entry.record(db, AuditOutcome.ACCEPTED)
            return Submitted(get_operation(db, operation_id), is_new=True)
        assert key is not None, "only a key can be known"
        known = find_by_key(db, actor, key)
        assert known is not None, "its row has just been met"
    return Submitted(_check_digest(known, key), is_new=False)


def submit_or_record(
    database: Database, actor: Actor, request: OperationRequest, **options: Any
) -> Submitted:
    """Submit in a transaction of its own; a refusal has an entry in the audit. Raises as submit."""
    with database.open_transaction() as db:
        known = get_connections(db, request.connection_ids[:2])
    action = _build_entry(actor, request, known)
    with record_errors(database, action), database.open_transaction() as db:
        return submit(db, actor, request, **options)


def _check_digest(known: Operation, key: IdempotencyKey | None) -> Operation:
    if key is not None and known.request_digest != key.digest:
        raise KeyReused(
            "this idempotency key came with another request within the last 24 hours; use a new one"
        )
    return known


def _check_request(db: sa.Connection, request: OperationRequest) -> list[Connection]:
    """Return the connections of a request that can be carried out."""
    ids = sorted(set(request.connection_ids))
    if request.expected_count is not None and request.expected_count != len(ids):
        changed = ExpectationChanged(
            f"{len(ids):,} connections match now, not {request.expected_count:,}; nothing was done"
        )
        changed.current = len(ids)
        raise changed
    if not 1 <= len(ids) <= MAX_TARGETS:
        raise InvalidInput(
            f"an operation is for 1 to {MAX_TARGETS:,} connections, not {len(ids):,}"
        )
    if request.action in SINGLE_ACTIONS and len(ids) > 1:
        raise InvalidInput(f"{request.action} is for one connection at a time")
    found = get_connections(db, ids)
    if missing := sorted(set(ids) - {one.id for one in found}):
        raise NotFound(f"there is no connection {missing[0]}")
    if isinstance(request.parameters, PauseParameters):
        check_pause(db, request.parameters.reason, request.parameters.until)
    if len(found) == 1:
        refuse_impossible(request.action, found[0])
    if isinstance(request.parameters, DecisionParameters):
        check_expectation(db, found[0], request.parameters.expected)
    return found


def refuse_impossible(action: Action, connection: Connection) -> None:
    """Raise StateConflict if the state of a connection does not allow an action."""
    if action is Action.RESYNC and connection.status not in SYNCED_STATUSES:
        reason = f": {connection.status_reason}" if connection.status_reason else ""
        raise StateConflict(
            f"it is {connection.status}, so it is not synced{reason}", connection=connection.title
        )
    if action is Action.PAUSE and connection.status is ConnectionStatus.RETIRED:
        raise StateConflict(
            "it is retired, so it is not synced and cannot be paused", connection=connection.title
        )


def _build_entry(
    actor: Actor, request: OperationRequest, connections: Sequence[Connection]
) -> AuditedAction:
    single = connections[0] if len(connections) == 1 else None
    return AuditedAction(
        actor,
        AuditAction(request.action.value),
        connection=single,
        subject=None if single else render_count(len(request.connection_ids), "connection"),
        parameters=request.build_stored_parameters(),
    )
