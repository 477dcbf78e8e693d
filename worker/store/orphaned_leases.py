"""Release of leases whose process is dead, without waiting until they expire.

This works only for processes of the same machine, the same boot and the same pid namespace. All
other leases expire.
"""

import sqlalchemy as sa
from sqlalchemy import text

from worker.core.process.identity import get_process_table, parse_identity

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
