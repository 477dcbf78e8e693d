"""Release of leases and operations whose process is dead, without waiting until they expire.

This works only for processes of the same machine, the same boot and the same pid namespace. All
other leases expire.
"""

import sqlalchemy as sa
from sqlalchemy import text

from worker.core.process.identity import get_process_table, parse_identity
from worker.store.state.operations import release_operation

_HELD = text("""
    select connection_id, token, holder from sync.leases
     where expires_at > clock_timestamp() and right(holder, length(:end)) = :end
""")
_FREE = text("""
    with freed as (
        update sync.leases set expires_at = null, holder = null
         where connection_id = (select connection_id from sync.leases
                                 where connection_id = :id and token = :token
                                   for update skip locked)
        returning connection_id)
    update sync.connections c set due_at = least(c.due_at, clock_timestamp())
      from freed where c.id = freed.connection_id and c.status in ('active', 'broken')
""")

_HELD_OPERATIONS = text("""
    select id, holder from sync.operations
     where state in ('queued', 'running') and held_until > clock_timestamp()
       and right(holder, length(:end)) = :end
""")


def free_orphaned_leases(db: sa.Connection) -> int:
    """Free leases held by dead processes, make their connections due, and return the count."""
    freed = 0
    processes = get_process_table()
    for row in db.execute(_HELD, {"end": f":{processes.namespace}"}).all():
        holder = parse_identity(row.holder)
        if holder is not None and processes.is_dead(holder):
            values = {"id": row.connection_id, "token": row.token}
            freed += db.execute(_FREE, values).rowcount
    return freed


def free_orphaned_operations(db: sa.Connection) -> int:
    """Free operations that dead processes carried out, and return the count."""
    processes = get_process_table()
    freed = 0
    for row in db.execute(_HELD_OPERATIONS, {"end": f":{processes.namespace}"}).all():
        holder = parse_identity(row.holder)
        if holder is not None and processes.is_dead(holder):
            release_operation(db, row.id, row.holder)
            freed += 1
    return freed
