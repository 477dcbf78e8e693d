"""Updates of rows that were read under the lease, each of which must still be there."""

from collections.abc import Sequence
from typing import Any

from models.resource import Resource
from worker.core.errors import RetryLater
from worker.store.engine import get_driver_connection
from worker.store.lease import Transaction

RETRY_SECONDS = 5


def update_each(
    tx: Transaction, resource: Resource, statement: str, values: Sequence[tuple[Any, ...]]
) -> None:
    """Run an update once for each tuple of values; each must affect exactly one row.

    Raises RetryLater where a row is missing: an event would describe a row that does not exist. The
    transaction is rolled back, and the page is compared again with what is stored then.
    """
    if not values:
        return
    with get_driver_connection(tx.db).cursor() as cursor:
        cursor.executemany(statement, values)
        affected = cursor.rowcount
    require_row_count(tx, resource, len(values), affected)


def require_row_count(tx: Transaction, resource: Resource, expected: int, found: int) -> None:
    """Raise RetryLater where fewer stored rows are there than this transaction has read before."""
    if found != expected:
        raise RetryLater(
            f"{expected} stored rows were to be changed, but {found} were found;"
            " nothing was written, and the work is repeated",
            connection=str(tx.connection_id),
            resource=resource.name,
            after=RETRY_SECONDS,
        )
