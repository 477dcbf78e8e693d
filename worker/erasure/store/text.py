"""Remove an erased object's names from stored texts: run errors and reasons.

Tenant Mirror's own texts contain no names, but some quote responses of Graph, Nango or Postgres.
"""

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple

import msgspec
import sqlalchemy as sa
from sqlalchemy import Column, Table, Text, cast, or_, select, update

from models.connection import connections
from models.quarantine import quarantine
from models.resource import OWNER
from models.resources import ERASABLE, RESOURCES
from models.run import runs
from models.stream import streams
from models.unresolved import unresolved
from worker.store.lease import Transaction

REPLACEMENT: Final = "erased"
MIN_NAME_LENGTH: Final = 4
"""Shortest name in letters; a shorter one would match inside other texts."""

NAME_COLUMNS: Final = tuple(
    dict.fromkeys(
        one.name for name in ERASABLE for one in RESOURCES[name].columns if one.identifies
    )
)
"""Columns that name an object."""


class TextTable(NamedTuple):
    """A table with texts, and the columns that hold them."""

    table: Table
    columns: tuple[str, ...]

    @property
    def owner(self) -> Column[Any]:
        return self.table.c.id if self.table is connections else self.table.c[OWNER]

    @property
    def key(self) -> list[Column[Any]]:
        return list(self.table.primary_key.columns)


TEXT_TABLES: Final = (
    TextTable(connections, ("status_reason", "settings_problem", "operator_pause_reason")),
    TextTable(streams, ("reason", "drift")),
    TextTable(runs, ("error", "resources")),
    TextTable(quarantine, ("reason",)),
    TextTable(unresolved, ("reason",)),
)


def extract_names(columns: Mapping[str, Any]) -> set[str]:
    """Return the names of an object, from its columns."""
    found: set[str] = set()
    for name in NAME_COLUMNS:
        value = columns.get(name)
        found.update(value if isinstance(value, list) else [value] if value else [])
    return {text for one in found for text in (one, one.partition(":")[2]) if _is_distinctive(text)}


def _is_distinctive(text: str) -> bool:
    return len(text) >= MIN_NAME_LENGTH and text.lower() not in RESOURCES


def redact_names(value: Any, names: Collection[str]) -> Any:
    """Return a text, or JSON with texts in it, without some names."""
    return _replace(value, _build_pattern(names)) if names else value


def _build_pattern(names: Iterable[str]) -> "re.Pattern[str]":
    longest_first = sorted(names, key=lambda name: (-len(name), name))
    any_of = "|".join(map(re.escape, longest_first))
    return re.compile(rf"(?<!\w)(?:{any_of})(?!\w)", re.IGNORECASE)


def _replace(value: Any, pattern: "re.Pattern[str]") -> Any:
    if isinstance(value, str):
        return pattern.sub(REPLACEMENT, value)
    if isinstance(value, list):
        return [_replace(one, pattern) for one in value]
    if isinstance(value, dict):
        return {name: _replace(one, pattern) for name, one in value.items()}
    return value


def has_mentions(db: sa.Connection, connection_id: int, names: Collection[str]) -> bool:
    """Whether any text of a connection contains one of the names."""
    return any(_find_changes(db, connection_id, place, names) for place in TEXT_TABLES)


def redact_texts(tx: Transaction, names: Collection[str]) -> dict[str, int]:
    """Remove names from every text of a connection; return the changed rows of each table."""
    counts = {}
    for place in TEXT_TABLES:
        changes = _find_changes(tx.db, tx.connection_id, place, names)
        for where, values in changes:
            tx.db.execute(update(place.table).where(*where).values(**values))
        if changes:
            counts[str(place.table)] = len(changes)
    return counts


def _find_changes(
    db: sa.Connection, connection_id: int, place: TextTable, names: Collection[str]
) -> list[tuple[Sequence[Any], dict[str, Any]]]:
    """Return the rows that contain a name, each with its new values."""
    if not names:
        return []
    columns = [place.table.c[name] for name in place.columns]
    spelt = {one for name in names for one in (name, msgspec.json.encode(name).decode()[1:-1])}
    found = [cast(c, Text).icontains(one, autoescape=True) for c in columns for one in spelt]
    statement = select(*place.key, *columns).where(place.owner == connection_id, or_(*found))
    changes: list[tuple[Sequence[Any], dict[str, Any]]] = []
    for row in db.execute(statement).all():
        stored = dict(zip(place.columns, row[len(place.key) :], strict=True))
        scrubbed = {name: redact_names(value, names) for name, value in stored.items()}
        values = {name: value for name, value in scrubbed.items() if value != stored[name]}
        if values:
            where = [column == row[n] for n, column in enumerate(place.key)]
            changes.append((where, values))
    return changes
