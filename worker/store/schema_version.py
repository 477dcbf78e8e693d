"""The Alembic revision of a database."""

import sqlalchemy as sa
from sqlalchemy import text

_PRESENT = text("select to_regclass('sync.schema_version') is not null")
_VERSION = text("select version_num from sync.schema_version")


def load_revision_in(db: sa.Connection) -> str | None:
    """Return the revision, or None if the database has none."""
    if not db.execute(_PRESENT).scalar_one():
        return None
    found = db.execute(_VERSION).scalar()
    return None if found is None else str(found)
