"""Taking up a connection that is new in Nango."""

import sqlalchemy as sa
from sqlalchemy import func
from sqlalchemy.dialects.postgresql import insert

from models.connection import ConnectionStatus, connections


def enrol_connection(
    db: sa.Connection, nango_connection_id: str, provider_config_key: str, provider: str
) -> int | None:
    """Our id of a new connection, due at once; None where somebody else has just enrolled it."""
    row = insert(connections).values(
        nango_connection_id=nango_connection_id,
        provider_config_key=provider_config_key,
        provider=provider,
        due_at=func.clock_timestamp(),
    )
    key = [connections.c.provider_config_key, connections.c.nango_connection_id]
    statement = row.on_conflict_do_nothing(
        index_elements=key, index_where=connections.c.status != ConnectionStatus.RETIRED.value
    )
    found: int | None = db.execute(statement.returning(connections.c.id)).scalar()
    return found
