"""Daily samples of columns that change too often for events."""

from datetime import UTC
from functools import cache

from sqlalchemy import TextClause, text

from models.base import DIRECTORY, HISTORY
from models.resource import OWNER, Resource
from models.sample import SAMPLED, get_sample_table
from worker.store.engine import Database
from worker.store.lease import Transaction
from worker.store.state.runs import PURGE_BATCH


@cache
def _build_statement(resource: Resource) -> TextClause:
    key = ", ".join((OWNER, *resource.key))
    names = [column.name for column in resource.sampled_columns]
    values = ", ".join(names)
    new = ", ".join(f"excluded.{name}" for name in names)
    return text(f"""
        insert into {HISTORY}.{get_sample_table(resource).name} as s ({key}, sampled_on, {values})
        select {key}, cast(:day as date), {values} from {DIRECTORY}.{resource.name}
         where {OWNER} = :id and deleted_at is null
            on conflict ({key}, sampled_on) do update set ({values}) = row ({new})
         where row ({", ".join(f"s.{name}" for name in names)}) is distinct from row ({new})
    """)


def take_samples(tx: Transaction, resource: Resource) -> None:
    """Keep today's values of a connection's sampled columns, in place of earlier ones of today.

    For the end of a walk that has read all objects: an object without a sample was not there.
    """
    if resource.sampled_columns:
        day = tx.moment.astimezone(UTC).date()
        tx.db.execute(_build_statement(resource), {"id": tx.connection_id, "day": day})


def purge_samples(database: Database, days: int) -> int:
    """Purge samples that are older than ``days``, in batches, and return how many."""
    return sum(_purge_table(database, get_sample_table(one).name, days) for one in SAMPLED)


def _purge_table(database: Database, table: str, days: int) -> int:
    statement = text(f"""
        delete from {HISTORY}.{table} where ctid = any(array(
            select ctid from {HISTORY}.{table}
             where sampled_on < cast(clock_timestamp() at time zone 'utc' as date) - :days
             limit :batch))
    """)
    purged, more = 0, True
    while more:
        with database.open_transaction() as db:
            count = db.execute(statement, {"days": days, "batch": PURGE_BATCH}).rowcount
        purged += count
        more = count == PURGE_BATCH
    return purged
