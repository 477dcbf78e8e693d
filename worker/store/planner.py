"""Hints to the query planner for one transaction."""

from typing import Final

import sqlalchemy as sa
from sqlalchemy import text

from worker.store.engine import get_driver_connection

_OTHER_SCANS: Final = ("enable_sort", "enable_bitmapscan", "enable_seqscan")
"""Ways to rows other than along an index."""


def prefer_hash_joins(db: sa.Connection) -> None:
    """For the rest of the transaction, plan joins of whole walks by hash.

    A table that was filled a moment ago has no statistics yet; a planner that takes it for empty
    picks nested loops, which are quadratic here.
    """
    db.execute(text("set local enable_nestloop = off"))


def force_index_scans(db: sa.Connection) -> None:
    """For the rest of the transaction, find rows by an index and in its order.

    Without fresh statistics the planner would read and sort all that is left, for each batch.
    """
    _set_scan_methods(db, "off")


def reset_planner(db: sa.Connection) -> None:
    """The planner is free again."""
    _set_scan_methods(db, "default")


def _set_scan_methods(db: sa.Connection, state: str) -> None:
    statement = "; ".join(f"set local {way} to {state}" for way in _OTHER_SCANS)
    with get_driver_connection(db).cursor() as cursor:
        cursor.execute(statement.encode())
