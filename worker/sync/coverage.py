"""Which columns of a resource the walks bring, and since which event events tell them. Pure.

Values that a walk brings of a column for the first time are no changes of the objects. One event
about the connection tells them all; until then, no event tells the column.
"""

from dataclasses import dataclass, replace

from worker.store.state.streams import Stream


@dataclass(frozen=True)
class CoverageChange:
    """The columns that a complete walk brought for the first time, and those that it did not."""

    added: list[str]
    dropped: list[str]


def find_coverage_change(before: Stream, after: Stream) -> CoverageChange | None:
    """Return what the end of a walk changed, or None; a first load changes nothing."""
    if before.walked_columns is None or after.walked_columns is None:
        return None
    old, new = set(before.walked_columns), set(after.walked_columns)
    columns = before.resource.column_names
    added = [name for name in columns if name in new - old]
    dropped = [name for name in columns if name in old - new]
    return CoverageChange(added, dropped) if added or dropped else None


def note_coverage_change(stream: Stream, change: CoverageChange, seq: int) -> Stream:
    """Return the stream after the event with number ``seq`` that tells the change."""
    since = {**(stream.covered_since or {}), **dict.fromkeys(change.added, seq)}
    since = {name: first for name, first in since.items() if name not in change.dropped}
    return replace(stream, covered_since=since or None)
