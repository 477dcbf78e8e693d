"""When rows began to be live: known only of those whose absence was seen shortly before."""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from worker.store.lease import Transaction
from worker.store.mirror.hidden_membership import find_hidden_groups


@dataclass(frozen=True)
class LiveSince:
    """When rows that become live in a transaction began to be.

    ``at`` is null where the last complete reading was the first or is long ago. ``unknown`` are
    objects that Graph did not tell of until now, or groups whose members it did not tell of.
    ``listed`` says that a full walk brings them: it may show the members of hidden groups for the
    first time, once the permission is granted.
    """

    at: datetime | None = None
    unobserved: Collection[str] = frozenset()
    is_full_walk: bool = False

    def get(self, key: str) -> datetime | None:
        """When an object began to be."""
        return None if key in self.unobserved else self.at

    def load_for_members(
        self, tx: Transaction, groups: Collection[str]
    ) -> dict[str, datetime | None]:
        """For each group, when its new members became members."""
        moments = {group: self.get(group) for group in groups}
        if self.at is not None and self.is_full_walk and groups:
            moments |= dict.fromkeys(find_hidden_groups(tx, groups))
        return moments


NOT_OBSERVED: Final = LiveSince()
"""The beginning of nothing is known."""
