"""What Postgres remembers of Nango's key: one that has worked is not wrong for one refusal.

The workers share that through Redis, which may be empty after a restart of the machine, at the
very moment at which Nango may not have reached its own database yet.
"""

import sqlalchemy as sa

from worker.nango.client import NangoClient
from worker.store.service.facts import get_key_accepted_at


def restore_key_health(db: sa.Connection, nango: NangoClient) -> None:
    """Have the client know that its key has worked, if it did."""
    health = nango.limiter.health
    if health.read()[0].has_worked:
        return
    worked_at = get_key_accepted_at(db, nango.limiter.fingerprint)
    if worked_at is not None:
        health.restore_worked_at(worked_at)
