"""Ask the dispatcher to read Nango's list of connections now."""

from typing import Final

from models.audit import AuditAction
from worker.operations.audit import AuditedAction, open_audited_transaction
from worker.store.engine import Database
from worker.store.service.audit import Actor
from worker.store.service.facts import request_discovery
from worker.store.state.connections import get_connection

_DETAIL: Final = "requested; the next tick of the dispatcher reads Nango's list"


def ask_for_discovery(database: Database, actor: Actor, connection_id: int) -> None:
    """Let the next tick read Nango's list, for the sake of a connection. Raises NotFound."""
    with database.open_transaction() as db:
        connection = get_connection(db, connection_id)
    action = AuditedAction(
        actor, AuditAction.CONNECTIONS_DISCOVER, connection=connection, detail=_DETAIL
    )
    with open_audited_transaction(database, action) as db:
        request_discovery(db)
