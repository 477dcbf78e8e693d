"""The latest operations on a connection, with what became of it."""

from dataclasses import dataclass
from datetime import datetime
from typing import Final

import sqlalchemy as sa
from sqlalchemy import select

from models.audit import Via
from models.operation import Action, OperationState, TargetState, operation_targets, operations

_OWN: Final = ("id", "action", "state", "actor", "via", "targets", "created_at", "started_at")


@dataclass(frozen=True)
class ConnectionOperation:
    """An operation as it concerns one connection."""

    id: int
    action: Action
    state: OperationState
    actor: str
    via: Via
    targets: int
    """Connections of the whole operation."""
    created_at: datetime
    started_at: datetime | None
    target_state: TargetState
    """Of this connection."""
    detail: str | None
    """What became of it."""
    finished_at: datetime | None
    """When this connection was done."""


def list_connection_operations(
    db: sa.Connection, connection_id: int, limit: int
) -> list[ConnectionOperation]:
    """Return the latest operations on a connection, newest first."""
    target = operation_targets.c
    statement = (
        select(
            *(operations.c[name] for name in _OWN),
            target.state.label("target_state"),
            target.detail,
            target.finished_at,
        )
        .join(operation_targets, target.operation_id == operations.c.id)
        .where(target.connection_id == connection_id)
        .order_by(operations.c.id.desc())
        .limit(limit)
    )
    return [
        ConnectionOperation(
            row.id,
            Action(row.action),
            OperationState(row.state),
            row.actor,
            Via(row.via),
            row.targets,
            row.created_at,
            row.started_at,
            TargetState(row.target_state),
            row.detail,
            row.finished_at,
        )
        for row in db.execute(statement)
    ]
