"""Since when rows are live: known only if they were observed to be absent shortly before."""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from models.resource import Resource
from worker.store.lease import Transaction
from worker.store.mirror.hidden_membership import find_hiding_parents


@dataclass(frozen=True)
class LiveSince:
    """The ``live_since`` times of rows that become live in a transaction.

    ``at`` is None in a first load, or if the last complete read is too long ago. ``unobserved`` are
    objects that Graph did not show before, or parents whose members it did not show.
    ``is_full_walk`` says that a full walk reads them: it may show hidden members for the first
    time, once the permission is granted.
    """

    at: datetime | None = None
    unobserved: Collection[str] = frozenset()
    is_full_walk: bool = False

    def get(self, key: str) -> datetime | None:
        """Return since when an object is live, or None if unknown."""
        return None if key in self.unobserved else self.at

    def load_for_members(
        self, tx: Transaction, edge: Resource, parents: Collection[str]
    ) -> dict[str, datetime | None]:
        """Return for each parent since when its new members are members, or None if unknown."""
        moments = {parent: self.get(parent) for parent in parents}
        if self.at is not None and self.is_full_walk and parents:
            moments |= dict.fromkeys(find_hiding_parents(tx, edge, parents))
        return moments


NOT_OBSERVED: Final = LiveSince()
"""No row's start is known."""
