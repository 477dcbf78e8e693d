"""Which schema the database has and which this release needs; light enough for every command."""

from pathlib import Path

from sqlalchemy import Connection, text

import migrations
from worker.core.errors import Halt
from worker.store.engine import Database

FOLDER = Path(next(iter(migrations.__path__)))
_PRESENT = text("select to_regclass('sync.schema_version') is not null")
_VERSION = text("select version_num from sync.schema_version")


def known() -> list[str]:
    """The revisions of this release, in order: they are numbered."""
    names = (path.name for path in (FOLDER / "versions").glob("[0-9]*.py"))
    return sorted(name.split("_", 1)[0] for name in names)


def newest() -> str:
    """The revision that this release works with."""
    return known()[-1]


def present(database: Database) -> str | None:
    """The revision that the database has; None where it has none. Raises Away, Halt."""
    with database.begin() as connection:
        return present_in(connection)


def present_in(connection: Connection) -> str | None:
    """The same, in a transaction."""
    if not connection.execute(_PRESENT).scalar_one():
        return None
    found = connection.execute(_VERSION).scalar()
    return None if found is None else str(found)


def check(database: Database) -> None:
    """Refuse to work on another schema than ours. Raises Halt."""
    found, wanted = present(database), newest()
    if found != wanted:
        raise Halt(
            f"the database at {database.place} is at schema {found or 'none'}, this release "
            f"needs {wanted}; run 'tenant-mirror migrate'"
        )
