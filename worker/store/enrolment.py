"""Taking up a connection that is new in Nango."""

from sqlalchemy import Connection, func
from sqlalchemy.dialects.postgresql import insert

from models.connection import ConnectionStatus, connections


def enrol(
    connection: Connection, nango_connection_id: str, provider_config_key: str, provider: str
) -> int:
    """Our id of a connection, made if need be and due at once; two at a time do no harm."""
    row = insert(connections).values(
        nango_connection_id=nango_connection_id,
        provider_config_key=provider_config_key,
        provider=provider,
        due_at=func.clock_timestamp(),
    )
    key = [connections.c.provider_config_key, connections.c.nango_connection_id]
    statement = row.on_conflict_do_update(
        index_elements=key,
        index_where=connections.c.status != ConnectionStatus.RETIRED.value,
        set_={"provider": provider},
    )
    return int(connection.execute(statement.returning(connections.c.id)).scalar_one())
