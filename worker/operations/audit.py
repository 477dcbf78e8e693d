"""Record actions of the command line, the HTTP API and the service, with their outcome."""

import contextlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import sqlalchemy as sa

from models.audit import AuditAction, AuditOutcome
from worker.core.errors import (
    InvalidInput,
    LeaseHeld,
    MirrorError,
    NotFound,
    RetryLater,
    ServerUnavailable,
    StateConflict,
)
from worker.store.engine import Database
from worker.store.service.audit import Actor, record_audit
from worker.store.state.connections import Connection

_REFUSALS = (InvalidInput, LeaseHeld, NotFound, StateConflict)


@dataclass
class AuditedAction:
    """An action under way. What is set on it appears in the entry of its outcome."""

    actor: Actor
    action: AuditAction
    connection: Connection | None = None
    subject: str | None = None
    """What it is done to; the connection's label if not given."""
    parameters: Mapping[str, Any] = field(default_factory=dict)
    detail: str | None = None
    """What became of it."""
    operation_id: int | None = None

    def record(self, db: sa.Connection, outcome: AuditOutcome = AuditOutcome.DONE) -> int:
        """Store an entry in the transaction of the action, and return its id."""
        label = self.connection.label if self.connection else None
        return record_audit(
            db,
            self.actor,
            self.action,
            outcome,
            connection_id=self.connection.id if self.connection else None,
            subject=self.subject or label,
            parameters=self.parameters,
            detail=self.detail,
            operation_id=self.operation_id,
        )


@contextmanager
def open_audited_transaction(database: Database, action: AuditedAction) -> Iterator[sa.Connection]:
    """Open the only transaction of an action; its entry is committed with it.

    An error is recorded as refused or failed by itself.
    """
    with record_errors(database, action), database.open_transaction() as db:
        yield db
        action.record(db)


@contextmanager
def audit_work(database: Database, action: AuditedAction) -> Iterator[AuditedAction]:
    """Record the begin and the outcome of an action of several transactions.

    An entry with the outcome "accepted" that none follows shows that the process was killed.
    """
    with database.open_transaction() as db:
        replace(action, detail=None).record(db, AuditOutcome.ACCEPTED)
    with record_errors(database, action):
        yield action
        with database.open_transaction() as db:
            action.record(db)


@contextmanager
def record_errors(database: Database, action: AuditedAction) -> Iterator[None]:
    """Record an error of an action as refused or failed, and raise it again."""
    try:
        yield
    except BaseException as error:
        action.detail = describe_error(error)
        # Where Postgres is away, the entry is lost; the action's own error is raised.
        with (
            contextlib.suppress(ServerUnavailable, RetryLater),
            database.open_transaction() as db,
        ):
            action.record(db, AuditOutcome.REFUSED if is_refusal(error) else AuditOutcome.FAILED)
        raise


def is_refusal(error: BaseException) -> bool:
    """Whether an error says that an action was not allowed, so that nothing was done."""
    return isinstance(error, _REFUSALS)


def describe_error(error: BaseException) -> str:
    """Return why an action failed. The message of a bug may hold data, so it is left out."""
    if isinstance(error, MirrorError):
        return error.message
    if isinstance(error, KeyboardInterrupt):
        return "stopped by its operator"
    return f"internal error of Tenant Mirror ({type(error).__name__})"
