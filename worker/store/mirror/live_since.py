"""Since when rows are live: known only if they were observed to be absent shortly before."""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from worker.store.lease import Transaction
from worker.store.mirror.hidden_membership import find_hidden_groups


@dataclass(frozen=True)
class LiveSince:
    """The ``live_since`` times of rows that become live in a transaction.

    ``at`` is None in a first load, or if the last complete read is too long ago. ``unobserved`` are
    objects that Graph did not show before, or groups whose members it did not show.
    ``is_full_walk`` says that a full walk reads them: it may show members of hidden groups for the
    first time, once the permission is granted.
    """

    at: datetime | None = None
    unobserved: Collection[str] = frozenset()
    is_full_walk: bool = False

    def get(self, key: str) -> datetime | None:
        """Return since when an object is live, or None if unknown."""
        return None if key in self.unobserved else self.at

    def load_for_members(
        self, tx: Transaction, groups: Collection[str]
    ) -> dict[str, datetime | None]:
        """Return for each group since when its new members are members, or None if unknown."""
        moments = {group: self.get(group) for group in groups}
        if self.at is not None and self.is_full_walk and groups:
            moments |= dict.fromkeys(find_hidden_groups(tx, groups))
        return moments


NOT_OBSERVED: Final = LiveSince()
"""No row's start is known."""
