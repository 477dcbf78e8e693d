"""Forgets what is known of a resource besides its rows."""

from collections.abc import Sequence
from typing import Final

from sqlalchemy import text

from models.resource import Resource
from worker.store.lease import Transaction

_FORGET: Final = tuple(
    text(f"delete from sync.{table} where connection_id = :id and resource = any(:names)")
    for table in ("seen", "removals", "candidates", "quarantine", "unresolved")
)


def forget_evidence(tx: Transaction, resources: Sequence[Resource]) -> None:
    """Forget what walks saw, which deletions wait, and which objects are in doubt."""
    values = {"id": tx.connection_id, "names": [resource.name for resource in resources]}
    for statement in _FORGET:
        tx.db.execute(statement, values)
