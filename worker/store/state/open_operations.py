"""The unfinished operations of a connection."""

import sqlalchemy as sa
from sqlalchemy import text

_OPEN = text("""
    select o.id
      from sync.operations o join sync.operation_targets t on t.operation_id = o.id
     where o.state in ('queued', 'running') and t.state = 'queued' and t.connection_id = :id
     order by o.id
""")


def list_open_operations(db: sa.Connection, connection_id: int) -> list[int]:
    """Return the unfinished operations that still have to do a connection, oldest first."""
    return list(db.execute(_OPEN, {"id": connection_id}).scalars())
