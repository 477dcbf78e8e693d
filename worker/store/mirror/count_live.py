"""Live rows of a connection, counted up to a bound."""

from collections.abc import Mapping
from typing import Final

import sqlalchemy as sa

from models.base import DIRECTORY
from models.resource import OWNER
from models.resources import RESOURCES
from worker.store.engine import get_driver_connection

MOST_COUNTED: Final = 100_000
"""Rows of a resource that are counted; of more, only that they are more is known."""

_COUNT: Final = "select " + ", ".join(
    f"(select count(*) from (select from {DIRECTORY}.{name} where {OWNER} = %(id)s"
    f" and deleted_at is null limit {MOST_COUNTED + 1}) live)"
    for name in RESOURCES
)


def count_live_up_to_bound(db: sa.Connection, connection_id: int) -> Mapping[str, int]:
    """Return the live rows of each resource; ``MOST_COUNTED`` + 1 stands for more."""
    with get_driver_connection(db).cursor() as cursor:
        cursor.execute(_COUNT.encode(), {"id": connection_id})
        return dict(zip(RESOURCES, cursor.fetchall()[0], strict=True))
