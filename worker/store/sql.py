"""Helpers for SQL about one resource."""

from typing import Any, Final

from models.resource import Resource
from worker.store.engine import get_driver_connection
from worker.store.lease import Transaction

OF_RESOURCE: Final = "connection_id = %(id)s and resource = %(resource)s"
"""Condition: the rows of one connection's resource."""


def execute_for_resource(tx: Transaction, statement: str, resource: Resource, **values: Any) -> int:
    """Run a statement for a resource, and return how many rows it changed."""
    with get_driver_connection(tx.db).cursor() as cursor:
        cursor.execute(statement, {"id": tx.connection_id, "resource": resource.name, **values})
        return cursor.rowcount


def fetch_for_resource(
    tx: Transaction, statement: str, resource: str, **values: Any
) -> list[tuple[Any, ...]]:
    """Return the rows of a statement for a resource."""
    with get_driver_connection(tx.db).cursor() as cursor:
        cursor.execute(statement, {"id": tx.connection_id, "resource": resource, **values})
        return cursor.fetchall()


def get_next_key(rows: list[tuple[Any, ...]], limit: int) -> str | None:
    """Return the last key of a full batch, to continue after it; None at the end."""
    return str(rows[0][0]) if rows and rows[0][1] == limit else None


def get_key_array_type(resource: Resource) -> str:
    """Return the SQL type of an array of keys."""
    return f"{resource.key_columns[0].type.sql}[]"
