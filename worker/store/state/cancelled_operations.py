"""Cancel an operation that no process has begun."""

from typing import Final

import sqlalchemy as sa
from sqlalchemy import text

# A process that carries it out holds it, or has done some of its connections: an operation that
# was begun is never queued without either. While the row is locked, none can begin.
_CANCEL: Final = text("""
    update sync.operations o
       set state = 'cancelled', error = :reason, finished_at = clock_timestamp(), held_until = null
     where o.id = :id and o.state = 'queued' and o.holder is null
       and not exists (select from sync.operation_targets t
                        where t.operation_id = o.id
                          and (t.state <> 'queued' or t.result is not null))
 returning id
""")
_CANCEL_TARGETS: Final = text("""
    update sync.operation_targets
       set state = 'cancelled', detail = :reason, finished_at = clock_timestamp()
     where operation_id = :id
""")


def cancel_queued_operation(db: sa.Connection, operation_id: int, reason: str) -> bool:
    """Cancel an operation and its connections; return False if a process has begun it."""
    values = {"id": operation_id, "reason": reason}
    if db.execute(_CANCEL, values).first() is None:
        return False
    db.execute(_CANCEL_TARGETS, values)
    return True
