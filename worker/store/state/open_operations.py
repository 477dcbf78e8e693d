"""Which operations concern a connection, and which connection an operation is about."""

from collections.abc import Sequence

import sqlalchemy as sa
from sqlalchemy import text

_OPEN = text("""
    select o.id
      from sync.operations o join sync.operation_targets t on t.operation_id = o.id
     where o.state in ('queued', 'running') and t.state = 'queued' and t.connection_id = :id
     order by o.id
""")
_SINGLE = text("""
    select operation_id, min(connection_id) as connection_id from sync.operation_targets
     where operation_id = any(cast(:ids as bigint[])) group by operation_id having count(*) = 1
""")


def list_open_operations(db: sa.Connection, connection_id: int) -> list[int]:
    """Return the unfinished operations that still have to do a connection, oldest first."""
    return list(db.execute(_OPEN, {"id": connection_id}).scalars())


def list_single_targets(db: sa.Connection, operation_ids: Sequence[int]) -> dict[int, int]:
    """Return the connection of each of these operations that is about one only."""
    found = db.execute(_SINGLE, {"ids": list(operation_ids)})
    return {row.operation_id: row.connection_id for row in found}
