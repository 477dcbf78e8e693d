"""Remember in Postgres that Nango's key has worked: one refusal does not make it invalid.

The workers share this through Redis, which may be empty after a restart of the machine, just when
Nango may not have reached its own database yet.
"""

import sqlalchemy as sa

from worker.nango.client import NangoClient
from worker.store.service.facts import get_key_accepted_at


def restore_key_health(db: sa.Connection, nango: NangoClient) -> None:
    """Record in the Nango client that its key has worked, if it has."""
    health = nango.limiter.health
    if health.read()[0].has_worked:
        return
    worked_at = get_key_accepted_at(db, nango.limiter.fingerprint)
    if worked_at is not None:
        health.restore_worked_at(worked_at)
