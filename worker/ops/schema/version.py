"""Which schema the database has and which this release needs; light enough for every command."""

from pathlib import Path

import migrations
from worker.core.errors import ConfigurationError
from worker.store.engine import Database
from worker.store.schema_version import load_revision_in

FOLDER = Path(next(iter(migrations.__path__)))


def list_revisions() -> list[str]:
    """The revisions of this release, in order: they are numbered."""
    names = (path.name for path in (FOLDER / "versions").glob("[0-9]*.py"))
    return sorted(name.split("_", 1)[0] for name in names)


def get_newest_revision() -> str:
    """The revision that this release works with."""
    return list_revisions()[-1]


def load_revision(database: Database) -> str | None:
    """The revision that the database has.

    None where it has none. Raises ServerUnavailable, ConfigurationError.
    """
    with database.open_transaction() as db:
        return load_revision_in(db)


def check_schema(database: Database) -> None:
    """Refuse to work on another schema than ours. Raises ConfigurationError."""
    found, wanted = load_revision(database), get_newest_revision()
    if found != wanted:
        raise ConfigurationError(
            f"the database at {database.server} is at schema {found or 'none'}, this release "
            f"needs {wanted}; run 'tenant-mirror migrate'"
        )
