"""Which columns of a resource an event tells, in a sequence in which columns came later."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

import sqlalchemy as sa
from sqlalchemy import text

from models.resources import RESOURCES
from worker.store.state.streams import find_untold_columns

NO_COLUMNS: Final[frozenset[str]] = frozenset()

_STREAMS: Final = text(
    "select resource, walked_columns, covered_since, off_at, dropped"
    "  from sync.streams where connection_id = :id"
)


@dataclass(frozen=True)
class Coverage:
    """The columns that no event tells yet, and for others the first event after which all do.

    A column that was told before and was not read for a while counts as untold in both times: what
    its values were in between is not known.
    """

    untold: frozenset[str] = NO_COLUMNS
    since: Mapping[str, int] = field(default_factory=dict)
    is_on: bool = True
    """Whether the settings let the resource be read; rows of one that is off are being removed."""
    off_seq: int = 0
    """The last event that switched it off: events up to it tell nothing of the present rows."""

    def find_untold(self, seq: int) -> frozenset[str]:
        """Return the columns that the event with this number does not tell."""
        if not self.since:
            return self.untold
        return self.untold.union(name for name, first in self.since.items() if first > seq)


def load_coverage(db: sa.Connection, connection_id: int) -> dict[str, Coverage]:
    """Return the coverage of each resource; edges have all their columns from the start."""
    found = {row.resource: row for row in db.execute(_STREAMS, {"id": connection_id})}
    coverage = dict.fromkeys(RESOURCES, Coverage())
    for name, resource in RESOURCES.items():
        row = found.get(resource.parent or name)
        if row is None:
            continue
        since, relation = row.covered_since or {}, resource.relation
        is_on = row.off_at is None and relation not in (row.dropped or ())
        off_seq = since.get(relation or resource.key[0], 0)
        if resource.is_edge:
            coverage[name] = Coverage(is_on=is_on, off_seq=off_seq)
            continue
        bits = find_untold_columns(resource, row.walked_columns)
        untold = (one for i, one in enumerate(resource.column_names) if bits >> i & 1)
        coverage[name] = Coverage(frozenset(untold), since, is_on=is_on, off_seq=off_seq)
    return coverage
