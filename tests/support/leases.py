"""Takes the lease of a connection and writes as a slice does, without running one."""

from worker.store import lease
from worker.store.engine import Database
from worker.store.lease import Lease


def take_lease(database: Database, connection_id: int, seconds: float) -> Lease:
    """Take the lease. Raises LeaseHeld."""
    with database.open_transaction() as db:
        return lease.take_lease(db, connection_id, seconds)[0]
