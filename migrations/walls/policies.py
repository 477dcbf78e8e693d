"""The policies of row-level security. Pure.

One policy lets everybody see everything, as before; restrictive ones wall off who is a member of
a walled role. Restrictive policies add up: no other policy and no other role opens them.
"""

import hashlib
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Final

from migrations.walls.roles import CONNECTION_SETTING, WALLED, ReaderKind

MAPPING: Final = "sync.reader_connections"
PREFIX: Final = "tenant_mirror_"

_NAMED: Final = f"nullif(current_setting('{CONNECTION_SETTING}', true), '')::bigint"
"""Null, and so nobody's rows, without the setting; it is empty after a transaction that set it."""
_SELF: Final = 'current_user::text collate "default"'
"""The cast would bring the collation of names, which no index of a text has."""
_LISTED: Final = f"(select m.connection_id from {MAPPING} m where m.role_name = {_SELF})"
"""Read once for a statement."""
# Both are compared by =, which every index with the column serves.


@dataclass(frozen=True)
class WalledTable:
    """A table with rows of customers, and its column with the connection."""

    place: str
    """Schema and name, quoted where necessary."""
    column: str = "connection_id"


@dataclass(frozen=True)
class RowPolicy:
    """A policy of a table."""

    name: str
    table: str
    kind: str
    to: str
    condition: str

    @property
    def digest(self) -> str:
        return hashlib.sha256(self._definition.encode()).hexdigest()[:16]

    @property
    def comment(self) -> str:
        """The comment by which the policy is known to be as declared."""
        return f"Made by tenant-mirror migrate (definition {self.digest})"

    @property
    def _definition(self) -> str:
        return f"as {self.kind} for all to {self.to} using ({self.condition})"

    def render(self) -> Iterator[str]:
        place = f"{self.name} on {self.table}"
        yield f"drop policy if exists {place}"
        yield f"create policy {place} {self._definition}"
        yield f"comment on policy {place} is '{self.comment}'"


def list_policies(
    table: WalledTable, kinds: Collection[ReaderKind] = WALLED
) -> tuple[RowPolicy, ...]:
    """Return the policies of a table, of those kinds of readers whose roles exist."""
    walls = (
        RowPolicy(kind.role, table.place, "restrictive", kind.role, _wall_off(table, kind))
        for kind in WALLED
        if kind in kinds
    )
    return (RowPolicy(f"{PREFIX}everybody", table.place, "permissive", "public", "true"), *walls)


def _wall_off(table: WalledTable, kind: ReaderKind) -> str:
    if kind.is_listed and table.place == MAPPING:
        return f"role_name = {_SELF}"
    return f"{table.column} = {_LISTED if kind.is_listed else _NAMED}"


def render_walls(table: WalledTable, kinds: Collection[ReaderKind] = WALLED) -> Iterator[str]:
    """Yield the statements that wall a table; they can be run again."""
    for policy in list_policies(table, kinds):
        yield from policy.render()
    yield f"alter table {table.place} enable row level security"
