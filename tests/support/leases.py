"""Being the writer of a connection, as a slice is, without one."""

from worker.store import lease
from worker.store.engine import Database
from worker.store.lease import Lease


def take(database: Database, connection_id: int, seconds: float) -> Lease:
    """Take the lease. Raises Busy."""
    with database.begin() as connection:
        return lease.take(connection, connection_id, seconds)[0]
