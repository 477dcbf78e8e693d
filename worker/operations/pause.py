"""Pause and resume connections, and end the pauses whose time has come."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

import sqlalchemy as sa

from models.audit import AuditAction
from models.connection import ConnectionStatus
from worker.core.errors import InvalidInput, StateConflict
from worker.operations.actor import SERVICE_ACTOR
from worker.operations.audit import AuditedAction
from worker.store.engine import Database, load_server_time
from worker.store.state.connections import SYNCED_STATUSES, Connection
from worker.store.state.pauses import (
    describe_pause,
    lock_expired_pauses,
    pause_connection,
    resume_connections,
)

MAX_REASON: Final = 300
"""Longest reason of a pause."""


def check_pause(db: sa.Connection, reason: str | None, until: datetime | None) -> None:
    """Check what an operator gave. Raises InvalidInput."""
    if reason is not None and (len(reason) > MAX_REASON or not reason.isprintable()):
        raise InvalidInput(
            f"the reason of a pause is one line of at most {MAX_REASON} printable characters"
        )
    if until is not None and until <= load_server_time(db):
        raise InvalidInput(f"a pause ends in the future, not at {until:%Y-%m-%d %H:%M} UTC")


def pause(
    db: sa.Connection,
    connection: Connection,
    *,
    by: str,
    reason: str | None = None,
    until: datetime | None = None,
) -> str:
    """Pause a connection, or change its pause; return what was done.

    Raises StateConflict if it is retired: it is not synced anyway.
    """
    if connection.is_retired:
        raise StateConflict(
            "it is retired, so it is not synced and cannot be paused", connection=connection.title
        )
    pause_connection(db, connection.id, by=by, reason=reason, until=until)
    end = f"until {until:%Y-%m-%d %H:%M} UTC" if until else "until somebody resumes it"
    if connection.is_operator_paused:
        return f"its pause was changed and lasts {end}"
    return f"paused {end}; a sync that runs ends after its current page"


def resume(db: sa.Connection, connection: Connection) -> str:
    """End the pause of a connection, which is due at once; return what was done."""
    if not connection.is_operator_paused:
        return f"no operator has paused it{_describe_status(connection)}"
    resume_connections(db, [connection.id])
    if connection.status in SYNCED_STATUSES:
        return "resumed; it is due now"
    return f"resumed{_describe_status(connection)}"


def _describe_status(connection: Connection) -> str:
    if connection.status is ConnectionStatus.PAUSED:
        return ', but Nango\'s metadata has "enabled": false for it'
    return "" if connection.status in SYNCED_STATUSES else f", but it is {connection.status}"


def build_pause_parameters(reason: str | None, until: datetime | None) -> Mapping[str, Any]:
    """Return the parameters of a pause as operations and the audit store them."""
    return {"reason": reason, "until": until.isoformat() if until else None}


def end_expired_pauses(database: Database) -> int:
    """End the pauses whose time has come, each with an entry in the audit; return how many."""
    with database.open_transaction() as db:
        ended = lock_expired_pauses(db)
        for connection in ended:
            AuditedAction(
                SERVICE_ACTOR,
                AuditAction.RESUME,
                connection=connection,
                detail=f"the pause has ended: {describe_pause(connection)}",
            ).record(db)
        resume_connections(db, [connection.id for connection in ended])
    return len(ended)
