"""Helpers for SQL about one resource."""

from typing import Any, Final

from sqlalchemy import ARRAY, DateTime, Uuid
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.types import TypeEngine

from models.resource import Resource
from worker.store.engine import get_driver_connection
from worker.store.lease import Transaction

OF_RESOURCE: Final = "connection_id = %(id)s and resource = %(resource)s"
"""The rows of a connection's resource."""


def execute_for_resource(tx: Transaction, statement: str, resource: Resource, **values: Any) -> int:
    """Run a statement about a resource; how many rows it changed."""
    with get_driver_connection(tx.db).cursor() as cursor:
        cursor.execute(statement, {"id": tx.connection_id, "resource": resource.name, **values})
        return cursor.rowcount


def fetch_for_resource(
    tx: Transaction, statement: str, resource: str, **values: Any
) -> list[tuple[Any, ...]]:
    """The rows of a statement about a resource."""
    with get_driver_connection(tx.db).cursor() as cursor:
        cursor.execute(statement, {"id": tx.connection_id, "resource": resource, **values})
        return cursor.fetchall()


def get_next_key(found: list[tuple[Any, ...]], limit: int) -> str | None:
    """Where to go on behind a batch, out of its last key and its size; None at the end."""
    return str(found[0][0]) if found and found[0][1] == limit else None


def get_key_array_type(resource: Resource) -> str:
    """The SQL type of a list of keys."""
    return "uuid[]" if isinstance(resource.columns[0].type, Uuid) else "text[]"


def get_sql_type(kind: TypeEngine[Any]) -> str:
    """How Postgres spells the type of a mirrored column."""
    names = {ARRAY: "text[]", JSONB: "jsonb", DateTime: "timestamptz", Uuid: "uuid"}
    found = [name for of, name in names.items() if isinstance(kind, of)]
    return found[0] if found else str(kind).lower()
