"""Purge of tombstones after their retention time."""

from collections.abc import Collection

from sqlalchemy import TextClause, text

from models.base import DIRECTORY
from models.resource import OWNER
from models.resources import RESOURCES
from worker.core.errors import RetryLater
from worker.core.log import get_logger
from worker.store.engine import Database
from worker.store.lease import block_writers
from worker.store.planner import force_index_scans
from worker.store.state.runs import PURGE_BATCH

LOCK_WAIT_SECONDS = 2
"""How long to wait for a transaction that writes the connection."""


def purge_deleted(database: Database, days: int) -> int:
    """Purge rows that have been deleted for longer than ``days``, and return how many.

    It runs in batches. Each connection's rows are purged in a separate transaction that locks its
    lease row: a slice that has read a tombstone can rely on it until it commits.
    """
    return sum(_purge_table(database, name, days) for name in RESOURCES)


def _purge_table(database: Database, table: str, days: int) -> int:
    purged, busy = 0, set[int]()
    while True:
        rows_by_connection = _find_deleted_rows(database, table, days, busy)
        for connection_id, places in rows_by_connection.items():
            try:
                purged += _delete_rows(database, table, days, connection_id, places)
            except RetryLater as error:
                busy.add(connection_id)
                get_logger().warning(
                    "deleted rows not purged: the connection is being written",
                    connection_id=connection_id,
                    resource=table,
                    reason=error.message,
                    hint="the next maintenance tries again",
                )
        if sum(map(len, rows_by_connection.values())) < PURGE_BATCH:
            return purged


def _find_deleted_rows(
    database: Database, table: str, days: int, skipped: Collection[int]
) -> dict[int, list[str]]:
    """Return the locations of rows to purge, by connection, without holding a lock.

    Uses the index of deleted rows: there may be a hundred million live ones.
    """
    rows_by_connection: dict[int, list[str]] = {}
    with database.open_transaction() as db:
        force_index_scans(db)
        values = {"days": days, "but": list(skipped), "batch": PURGE_BATCH}
        for owner, place in db.execute(render_purge_query(table), values):
            rows_by_connection.setdefault(owner, []).append(place)
    return rows_by_connection


def render_purge_query(table: str) -> TextClause:
    """Return the query for rows to purge, which skips the connections in ``but``."""
    return text(
        f"select {OWNER}, ctid::text as place from {DIRECTORY}.{table}"
        " where deleted_at < now() - make_interval(days => :days)"
        f" and {OWNER} <> all(cast(:but as bigint[])) limit :batch"
    )


def _delete_rows(
    database: Database, table: str, days: int, connection_id: int, places: list[str]
) -> int:
    """Delete the rows at the given locations if still due, and return how many."""
    statement = text(
        f"delete from {DIRECTORY}.{table} where ctid = any(cast(:places as tid[]))"
        f" and {OWNER} = :id and deleted_at < now() - make_interval(days => :days)"
    )
    with block_writers(database, connection_id, wait_seconds=LOCK_WAIT_SECONDS) as db:
        values = {"places": places, "id": connection_id, "days": days}
        return db.execute(statement, values).rowcount
