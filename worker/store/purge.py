"""Deleted rows are kept for a while, then they go for good."""

from collections.abc import Collection

from sqlalchemy import TextClause, text

from models.base import DIRECTORY
from models.resource import OWNER
from models.resources import RESOURCES
from worker.core.errors import Later
from worker.core.log import logger
from worker.store.engine import Database, along_the_key
from worker.store.lease import excluding_writers

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
LOCK_SECONDS = 2
"""How long to wait for the transaction that is writing a connection."""


def purge_deleted(database: Database, days: int) -> int:
    """Remove rows that have been deleted for longer than ``days``; how many.

    In batches. The rows of each connection go in a transaction of their own that holds the lock
    of its lease row: a slice that has read a tombstone can rely on it until it commits.
    """
    return sum(_purge(database, name, days) for name in RESOURCES)


def _purge(database: Database, table: str, days: int) -> int:
    purged, busy = 0, set[int]()
    while True:
        found = _find(database, table, days, busy)
        for connection_id, places in found.items():
            try:
                purged += _delete(database, table, days, connection_id, places)
            except Later as trouble:
                busy.add(connection_id)
                logger().warning(
                    "deleted rows were not purged: the connection is being written;"
                    " the next hour tries again",
                    connection=connection_id,
                    resource=table,
                    reason=trouble.message,
                )
        if sum(map(len, found.values())) < _BATCH:
            return purged


def _find(database: Database, table: str, days: int, but: Collection[int]) -> dict[int, list[str]]:
    """Where rows to purge are, by connection. No lock is held while they are looked for.

    By the index of deleted rows: there may be a hundred million that are live.
    """
    found: dict[int, list[str]] = {}
    with database.begin() as connection:
        along_the_key(connection)
        values = {"days": days, "but": list(but), "batch": _BATCH}
        for owner, place in connection.execute(search(table), values):
            found.setdefault(owner, []).append(place)
    return found


def search(table: str) -> TextClause:
    """The query for rows to purge, of connections but some."""
    return text(
        f"select {OWNER}, ctid::text as place from {DIRECTORY}.{table}"
        " where deleted_at < now() - make_interval(days => :days)"
        f" and {OWNER} <> all(cast(:but as bigint[])) limit :batch"
    )


def _delete(
    database: Database, table: str, days: int, connection_id: int, places: list[str]
) -> int:
    """Delete the rows at the given places that are still to be purged; how many."""
    statement = text(
        f"delete from {DIRECTORY}.{table} where ctid = any(cast(:places as tid[]))"
        f" and {OWNER} = :id and deleted_at < now() - make_interval(days => :days)"
    )
    with excluding_writers(database, connection_id, wait_seconds=LOCK_SECONDS) as connection:
        values = {"places": places, "id": connection_id, "days": days}
        return connection.execute(statement, values).rowcount


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
