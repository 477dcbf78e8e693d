"""Sentences that may name somebody: run errors, reasons. An erasure takes the names out of them.

Our own sentences name nobody; what Graph, Nango or Postgres answered is quoted in some of them.
"""

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple

import msgspec
from sqlalchemy import Column, Connection, Table, Text, cast, or_, select, update

from models.connection import connections
from models.quarantine import quarantine
from models.resource import OWNER
from models.resources import RESOURCES
from models.run import runs
from models.stream import streams
from models.unresolved import unresolved
from worker.store.lease import Transaction

INSTEAD: Final = "erased"
SHORTEST: Final = 4
"""Letters of a name; a shorter one would be found in other words."""

NAMING: Final = (
    "user_principal_name",
    "mail",
    "display_name",
    "proxy_addresses",
    "other_mails",
    "name",
    "web_url",
    "composite_id",
)
"""Columns that say who or what an object is."""


class Place(NamedTuple):
    """A table with sentences in it, and the columns that hold them."""

    table: Table
    columns: tuple[str, ...]

    @property
    def owner(self) -> Column[Any]:
        return self.table.c.id if self.table is connections else self.table.c[OWNER]

    @property
    def key(self) -> list[Column[Any]]:
        return list(self.table.primary_key.columns)


PLACES: Final = (
    Place(connections, ("status_reason", "settings_problem")),
    Place(streams, ("reason", "drift")),
    Place(runs, ("error", "resources")),
    Place(quarantine, ("reason",)),
    Place(unresolved, ("reason",)),
)


def names_of(columns: Mapping[str, Any]) -> set[str]:
    """What somebody may be called by, out of some columns of the object."""
    found: set[str] = set()
    for name in NAMING:
        value = columns.get(name)
        found.update(value if isinstance(value, list) else [value] if value else [])
    return {text for one in found for text in (one, one.partition(":")[2]) if _tells(text)}


def _tells(text: str) -> bool:
    return len(text) >= SHORTEST and text.lower() not in RESOURCES


def without_names(value: Any, names: Collection[str]) -> Any:
    """A sentence, or JSON with sentences in it, without some names."""
    return _replaced(value, _pattern(names)) if names else value


def _pattern(names: Iterable[str]) -> "re.Pattern[str]":
    longest_first = sorted(names, key=lambda name: (-len(name), name))
    any_of = "|".join(map(re.escape, longest_first))
    return re.compile(rf"(?<!\w)(?:{any_of})(?!\w)", re.IGNORECASE)


def _replaced(value: Any, pattern: "re.Pattern[str]") -> Any:
    if isinstance(value, str):
        return pattern.sub(INSTEAD, value)
    if isinstance(value, list):
        return [_replaced(one, pattern) for one in value]
    if isinstance(value, dict):
        return {name: _replaced(one, pattern) for name, one in value.items()}
    return value


def mentions(connection: Connection, connection_id: int, names: Collection[str]) -> bool:
    """Whether any sentence of a connection has one of the names in it."""
    return any(_changes(connection, connection_id, place, names) for place in PLACES)


def scrub_texts(tx: Transaction, names: Collection[str]) -> dict[str, int]:
    """Take names out of every sentence of a connection; rows changed in each table."""
    counts = {}
    for place in PLACES:
        changes = _changes(tx.connection, tx.connection_id, place, names)
        for where, values in changes:
            tx.connection.execute(update(place.table).where(*where).values(**values))
        if changes:
            counts[str(place.table)] = len(changes)
    return counts


def _changes(
    connection: Connection, connection_id: int, place: Place, names: Collection[str]
) -> list[tuple[Sequence[Any], dict[str, Any]]]:
    """Rows that have a name in them: which, and what they are to say instead."""
    if not names:
        return []
    columns = [place.table.c[name] for name in place.columns]
    spelt = {one for name in names for one in (name, msgspec.json.encode(name).decode()[1:-1])}
    found = [cast(c, Text).icontains(one, autoescape=True) for c in columns for one in spelt]
    statement = select(*place.key, *columns).where(place.owner == connection_id, or_(*found))
    changes: list[tuple[Sequence[Any], dict[str, Any]]] = []
    for row in connection.execute(statement).all():
        stored = dict(zip(place.columns, row[len(place.key) :], strict=True))
        scrubbed = {name: without_names(value, names) for name, value in stored.items()}
        values = {name: value for name, value in scrubbed.items() if value != stored[name]}
        if values:
            where = [column == row[n] for n, column in enumerate(place.key)]
            changes.append((where, values))
    return changes
