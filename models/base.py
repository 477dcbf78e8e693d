"""The shared metadata of all tables, and the schemas, which keep grants simple."""

from typing import Final

from sqlalchemy import MetaData

DIRECTORY: Final = "directory"
"""The mirror itself: one table for each Graph resource."""

SYNC: Final = "sync"
"""Bookkeeping of the service."""

EVENTS: Final = "events"
"""Change events, epochs, sinks and positions."""

ANALYTICS: Final = "analytics"
"""Views for people."""

ANALYTICS_PSEUDONYMOUS: Final = "analytics_pseudonymous"
"""The same views without names. It has no table, and is made with its views."""

HISTORY: Final = "history"
"""Daily samples of what changes too often for events."""

SCHEMAS: Final = (DIRECTORY, SYNC, EVENTS, ANALYTICS, HISTORY)

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)
