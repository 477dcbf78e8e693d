"""When rows began to be live: known only of those whose absence was seen shortly before."""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from worker.store.hidden import hidden_among
from worker.store.lease import Transaction


@dataclass(frozen=True)
class Beginnings:
    """When rows that become live in a transaction began to be.

    ``at`` is null where the last complete reading was the first or is long ago. ``unknown`` are
    objects that Graph did not tell of until now, or groups whose members it did not tell of.
    ``listed`` says that a full walk brings them: it may show the members of hidden groups for the
    first time, once the permission is granted.
    """

    at: datetime | None = None
    unknown: Collection[str] = frozenset()
    listed: bool = False

    def of(self, key: str) -> datetime | None:
        """When an object began to be."""
        return None if key in self.unknown else self.at

    def of_members(self, tx: Transaction, groups: Collection[str]) -> dict[str, datetime | None]:
        """For each group, when its new members became members."""
        moments = {group: self.of(group) for group in groups}
        if self.at is not None and self.listed and groups:
            moments |= dict.fromkeys(hidden_among(tx, groups))
        return moments


NOT_SEEN: Final = Beginnings()
"""The beginning of nothing is known."""
