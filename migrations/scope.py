"""What Alembic compares: our schemas, and nothing that maintenance makes."""

from collections.abc import MutableMapping
from typing import Any

from models.base import SCHEMAS


def is_managed(name: str | None, kind: str, parents: MutableMapping[Any, str | None]) -> bool:
    """Look at our schemas only, and not at the partitions that maintenance makes."""
    if kind == "schema":
        return name in SCHEMAS
    if kind == "table":
        return (
            not (name or "").startswith("change_events_") and parents.get("schema_name") in SCHEMAS
        )
    return True
