"""Query planner settings for one transaction."""

from typing import Final

import sqlalchemy as sa

from worker.store.engine import get_driver_connection

_OTHER_SCANS: Final = ("enable_sort", "enable_bitmapscan", "enable_seqscan")
"""Planner settings of all methods other than plain index scans."""


def prefer_hash_joins(db: sa.Connection) -> None:
    """Plan joins of whole walks without nested loops, for the rest of the transaction.

    A table that was just filled has no statistics yet. The planner assumes it is empty and picks
    nested loops, which are quadratic here.
    """
    _execute(db, "set local enable_nestloop = off")


def force_index_scans(db: sa.Connection) -> None:
    """Read rows by an index and in its order, for the rest of the transaction.

    Without fresh statistics the planner would read and sort all remaining rows for each batch.
    """
    _set_scan_methods(db, "off")


def reset_planner(db: sa.Connection) -> None:
    """Undo ``force_index_scans``."""
    _set_scan_methods(db, "default")


def _set_scan_methods(db: sa.Connection, state: str) -> None:
    _execute(db, "; ".join(f"set local {way} to {state}" for way in _OTHER_SCANS))


def _execute(db: sa.Connection, statement: str) -> None:
    with get_driver_connection(db).cursor() as cursor:
        cursor.execute(statement.encode())
