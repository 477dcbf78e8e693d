"""Gives the database the lists of what is privileged that this release ships."""

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert

from models.privileges import PRIVILEGE_LISTS, PrivilegeList


def store_privileges(db: sa.Connection) -> None:
    """Store the entries of the lists that this release ships, and no others of their sources.

    Entries of other sources stay, and so does what was left out. Doing it again changes nothing.
    """
    existing = sa.inspect(db).get_table_names("analytics")
    for shipped in PRIVILEGE_LISTS:
        if shipped.table.name in existing:
            _store_list(db, shipped)


def _store_list(db: sa.Connection, shipped: PrivilegeList) -> None:
    table = shipped.table
    key, _, label = (column.name for column in list(table.columns)[:3])
    db.execute(
        sa.delete(table).where(
            table.c.source == shipped.source, table.c[key].not_in(list(shipped.names))
        )
    )
    rows = [
        {key: one, "source": shipped.source, label: name, "as_of": shipped.as_of}
        for one, name in shipped.names.items()
    ]
    new = insert(table).values(rows)
    renewed = {name: new.excluded[name] for name in (label, "as_of")}
    db.execute(new.on_conflict_do_update(index_elements=[key, "source"], set_=renewed))
