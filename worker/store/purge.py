"""Deleted rows are kept for a while, then they go for good."""

from sqlalchemy import text

from models.base import DIRECTORY
from models.resources import RESOURCES
from worker.store.engine import Database

_BATCH = 5000
_RUNS = text("""
    delete from sync.runs where id in (
        select id from sync.runs
         where finished_at < now() - make_interval(days => :days)
            or (finished_at < now() - make_interval(days => :quiet) and state = 'succeeded'
                and created + updated + deleted + restored = 0)
         limit :batch)
""")
RUN_DAYS = 90
QUIET_RUN_DAYS = 7


def purge_deleted(database: Database, days: int) -> int:
    """Remove rows that have been deleted for longer than ``days``; how many.

    In batches, each a transaction of its own, so that nobody waits for it.
    """
    return sum(_purge(database, name, days) for name in RESOURCES)


def _purge(database: Database, table: str, days: int) -> int:
    statement = text(
        f"delete from {DIRECTORY}.{table} where ctid = any(array("
        f" select ctid from {DIRECTORY}.{table}"
        " where deleted_at < now() - make_interval(days => :days) limit :batch))"
    )
    purged = 0
    while True:
        with database.begin() as connection:
            gone = connection.execute(statement, {"days": days, "batch": _BATCH}).rowcount
        purged += gone
        if gone < _BATCH:
            return purged


def purge_runs(database: Database) -> int:
    """Forget finished runs of long ago, those that changed nothing sooner; how many."""
    purged = 0
    while True:
        with database.begin() as connection:
            gone = connection.execute(
                _RUNS, {"days": RUN_DAYS, "quiet": QUIET_RUN_DAYS, "batch": _BATCH}
            ).rowcount
        purged += gone
        if gone < _BATCH:
            return purged
