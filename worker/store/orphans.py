"""Leases of processes of this host that are dead: freed at once instead of left to lapse.

Only a shortcut: were a process taken for dead that lives (two containers may share a host name),
the fence would hold it off, and it would lose a page.
"""

import os
import socket

from sqlalchemy import Connection, text

_HELD = text("""
    select connection_id, token, holder from sync.leases
     where expires_at > clock_timestamp() and starts_with(holder, :host || ':')
""")
_FREE = text("""
    with freed as (
        update sync.leases set expires_at = null, holder = null
         where connection_id = :id and token = :token returning connection_id)
    update sync.connections c set due_at = least(c.due_at, clock_timestamp())
      from freed where c.id = freed.connection_id and c.status in ('active', 'broken')
""")


def free_orphans(connection: Connection) -> int:
    """Have the connections that a dead process of this host held due at once; how many."""
    freed = 0
    for row in connection.execute(_HELD, {"host": socket.gethostname()}).all():
        pid = row.holder.rpartition(":")[2]
        if pid.isdigit() and not _is_alive(int(pid)):
            values = {"id": row.connection_id, "token": row.token}
            freed += connection.execute(_FREE, values).rowcount
    return freed


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return not _is_zombie(pid)


def _is_zombie(pid: int) -> bool:
    """Whether a process is dead but not yet buried by its parent."""
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as stat:  # noqa: PTH123
            return stat.read().rpartition(")")[2].split()[:1] == ["Z"]
    except OSError:
        return False
