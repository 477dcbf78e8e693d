"""What Postgres remembers of Nango's key: one that has worked is not wrong for one refusal.

The workers share that through Redis, which may be empty after a restart of the machine, at the
very moment at which Nango may not have reached its own database yet.
"""

from sqlalchemy import Connection

from worker.nango.client import NangoClient
from worker.store.service import key_worked_at


def recall_key(connection: Connection, nango: NangoClient) -> None:
    """Have the client know that its key has worked, if it did."""
    health = nango.gate.health
    if health.look()[0].has_worked:
        return
    worked_at = key_worked_at(connection, nango.gate.fingerprint)
    if worked_at is not None:
        health.remember(worked_at)
