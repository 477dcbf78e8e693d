"""The database's revision and that of this release; imports little, as every command uses it."""

from pathlib import Path

import sqlalchemy as sa
from sqlalchemy import text

import migrations
from worker.core.errors import ConfigurationError
from worker.store.engine import Database

FOLDER = Path(next(iter(migrations.__path__)))

_PRESENT = text("select to_regclass('sync.schema_version') is not null")
_VERSION = text("select version_num from sync.schema_version")


def load_revision_in(db: sa.Connection) -> str | None:
    """Return the revision, or None if the database has none."""
    if not db.execute(_PRESENT).scalar_one():
        return None
    found = db.execute(_VERSION).scalar()
    return None if found is None else str(found)


def list_revisions() -> list[str]:
    """Return the revisions of this release, in order of their numbers."""
    names = (path.name for path in (FOLDER / "versions").glob("[0-9]*.py"))
    return sorted(name.split("_", 1)[0] for name in names)


def get_newest_revision() -> str:
    """Return the revision that this release needs."""
    return list_revisions()[-1]


def load_revision(database: Database) -> str | None:
    """Return the database's revision, or None. Raises ServerUnavailable, ConfigurationError."""
    with database.open_transaction() as db:
        return load_revision_in(db)


def check_schema(database: Database) -> None:
    """Raise ConfigurationError if the database's schema is not this release's."""
    found, wanted = load_revision(database), get_newest_revision()
    if found is None:
        raise ConfigurationError(
            f"the database at {database.server} has no schema yet; run 'tenant-mirror migrate'"
        )
    if found != wanted:
        raise ConfigurationError(
            f"the database at {database.server} is at schema {found}, but this release needs "
            f"{wanted}; run 'tenant-mirror migrate'"
        )
