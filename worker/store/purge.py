"""Deleted rows are kept for a while, then they go for good."""

from sqlalchemy import text

from models.base import DIRECTORY
from models.resources import RESOURCES
from worker.store.engine import Database

_BATCH = 5000
_RUNS = text("""
    delete from sync.runs where id in (
        select id from sync.runs
         where state <> 'running' and finished_at < now() - make_interval(days => :days)
         limit :batch)
""")
RUN_DAYS = 90


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


def purge_runs(database: Database) -> None:
    """Forget finished runs of long ago."""
    with database.begin() as connection:
        connection.execute(_RUNS, {"days": RUN_DAYS, "batch": _BATCH})
