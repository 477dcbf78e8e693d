"""Names that customers choose, to see that no output lets them do anything."""

from typing import Final

from sqlalchemy import text

from worker.store.engine import Database

CANARY_PERSON: Final = "Canary Person"
HOSTILE_NAMES: Final = (
    "<script>alert(1)</script>",
    "<!channel> @here",
    "\u202egnp.exe",
    "x" * 500,
    "",
    "two\nlines\r\nSet-Cookie: a=b",
    "\u0000".replace("\u0000", "\u001b[31mred"),
    "'; drop table sync.connections; --",
    CANARY_PERSON,
)

_RENAME = text("""
    update sync.connections set display_name = :name, status_reason = :name
     where id = (select id from sync.connections order by id offset :offset limit 1)
""")


def plant_names(database: Database) -> None:
    """Give the first connections these names, and reasons that quote them."""
    with database.open_transaction() as db:
        for offset, name in enumerate(HOSTILE_NAMES):
            db.execute(_RENAME, {"name": name, "offset": offset})
