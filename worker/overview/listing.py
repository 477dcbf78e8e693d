"""Filtered, sorted and paged lists of the fleet's connections."""

import base64
import binascii
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any, Final, NamedTuple

import msgspec

from worker.conditions.condition import Code
from worker.core.errors import InvalidInput
from worker.overview.fleet import Fleet, FleetConnection

MAX_LIMIT: Final = 1000
"""Most connections on one page."""


@dataclass(frozen=True)
class ConnectionFilter:
    """Which connections are wanted; what is not given matches all."""

    conditions: frozenset[Code] = frozenset()
    """Any of these, as its own condition or as that of the service that holds it up."""
    statuses: frozenset[str] = frozenset()
    text: str = ""
    """Part of its name, address in Nango, tenant id or of one of its domains; or its whole id."""
    ids: frozenset[int] | None = None
    attention: bool = False
    """Only those that need attention."""


_EVERYTHING: Final = ConnectionFilter()
_Keyed = tuple[tuple[Any, int], FleetConnection]
"""A connection with what it is sorted by."""


class ListCounts(NamedTuple):
    """Counts of all connections of a list, on every page."""

    total: int
    attention: int
    statuses: Mapping[str, int]
    conditions: Mapping[Code, int]


class Sort(StrEnum):
    """The order of a list; the id decides between equal ones."""

    ID = "id"
    NAME = "name"
    AGE = "age"
    """The oldest data first; what was never loaded before all."""
    SEVERITY = "severity"
    """The most severe first."""
    RUN = "run"
    """The last run that ended first; those without one at the end."""
    ROWS = "rows"
    """The most rows in the last run first."""
    NEXT = "next"
    """Due soonest first; those without a due time at the end."""


_NEVER: Final = 1e18
"""Later than any time, in Unix seconds."""


def _get_run_key(one: FleetConnection) -> float:
    ended = one.facts.last_finished_at
    return 0.0 if ended is None else -ended.timestamp()


def _get_due_key(one: FleetConnection) -> float:
    due = one.facts.due_at
    return _NEVER if due is None else due.timestamp()


_SORT_KEYS: Final[Mapping[Sort, Callable[[FleetConnection], Any]]] = {
    Sort.ID: lambda one: one.id,
    Sort.NAME: lambda one: one.facts.title.casefold(),
    Sort.AGE: lambda one: -1.0 if (fresh := one.facts.fresh_at) is None else fresh,
    Sort.SEVERITY: lambda one: 0 if one.severity is None else -1 - one.severity.rank,
    Sort.RUN: _get_run_key,
    Sort.ROWS: lambda one: -(one.facts.last_objects or 0),
    Sort.NEXT: _get_due_key,
}


_KEY_TYPES: Final[Mapping[Sort, Any]] = {
    Sort.ID: tuple[str, int, int],
    Sort.NAME: tuple[str, str, int],
    Sort.AGE: tuple[str, float, int],
    Sort.SEVERITY: tuple[str, int, int],
    Sort.RUN: tuple[str, float, int],
    Sort.ROWS: tuple[str, int, int],
    Sort.NEXT: tuple[str, float, int],
}


@dataclass(frozen=True)
class ConnectionPage:
    """A page of a list, and counts of all that the filter matches."""

    rows: Sequence[FleetConnection]
    total: int
    attention: int
    statuses: Mapping[str, int]
    conditions: Mapping[Code, int]
    next_key: str | None
    """Where the next page begins; None after the last one."""


def list_connections(
    fleet: Fleet,
    wanted: ConnectionFilter,
    *,
    sort: Sort = Sort.ID,
    after: str | None = None,
    limit: int | None = 100,
) -> ConnectionPage:
    """Return a page of the connections that match.

    ``after`` is the ``next_key`` of the page before. While connections come, go or change, none
    that keeps its place in the order is left out or shown twice. A ``limit`` of None is none: all
    that follow are returned. Raises InvalidInput.
    """
    if limit is not None and not 1 <= limit <= MAX_LIMIT:
        raise InvalidInput(f"limit must be from 1 to {MAX_LIMIT}")
    order: Sequence[_Keyed] = fleet.derive(_sort, sort)
    start = 0
    if after is not None:
        start = bisect_right(order, _decode_key(after, sort), key=lambda item: item[0])
    left = order[start:]
    if wanted == _EVERYTHING:
        counts: ListCounts = fleet.derive(_count_all)
    else:
        matches = _match(fleet, wanted)
        ids = {one.id for one in matches}
        left = [item for item in left if item[1].id in ids]
        counts = _count(matches)
    shown = left if limit is None else left[:limit]
    is_last = len(shown) == len(left)
    return ConnectionPage(
        [one for _, one in shown],
        *counts,
        next_key=None if is_last or not shown else _encode_key(sort, shown[-1][0]),
    )


def _sort(fleet: Fleet, sort: Sort) -> Sequence[_Keyed]:
    """Return all connections with their keys in an order, which a look keeps."""
    key = _SORT_KEYS[sort]
    return sorted(((key(one), one.id), one) for one in fleet.connections)


def _count_all(fleet: Fleet) -> ListCounts:
    return _count(fleet.connections)


def _count(matches: Sequence[FleetConnection]) -> ListCounts:
    return ListCounts(
        total=len(matches),
        attention=sum(one.needs_attention for one in matches),
        statuses=Counter(one.facts.status for one in matches),
        conditions=Counter(code for one in matches for code in one.codes),
    )


def count_codes(fleet: Fleet, wanted: ConnectionFilter) -> Mapping[Code, int]:
    """Return how many connections have each condition, of those that match but for conditions."""
    others = replace(wanted, conditions=frozenset(), attention=False)
    if others == _EVERYTHING:
        counts: ListCounts = fleet.derive(_count_all)
        return counts.conditions
    matches = _match(fleet, others)
    return Counter(code for one in matches for code in one.codes)


def match_ids(fleet: Fleet, wanted: ConnectionFilter) -> list[int]:
    """Return the ids of all connections that match, in order."""
    return [one.id for one in _match(fleet, wanted)]


def _match(fleet: Fleet, wanted: ConnectionFilter) -> list[FleetConnection]:
    found = [
        one
        for one in fleet.connections
        if (wanted.ids is None or one.id in wanted.ids)
        and (not wanted.statuses or one.facts.status in wanted.statuses)
        and (not wanted.attention or one.needs_attention)
        and (not wanted.conditions or not wanted.conditions.isdisjoint(one.codes))
    ]
    text = wanted.text.strip().casefold()
    if not text:
        return found
    if text.isascii() and text.isdigit():
        return [one for one in found if str(one.id) == text or text in one.search_text]
    return [one for one in found if text in one.search_text]


def _encode_key(sort: Sort, key: tuple[Any, int]) -> str:
    return base64.urlsafe_b64encode(msgspec.json.encode((sort.value, *key))).decode().rstrip("=")


def _decode_key(text: str, sort: Sort) -> tuple[Any, int]:
    """Return the sort key and id of the row that a page ended with. Raises InvalidInput."""
    try:
        raw = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
        name, key, number = msgspec.json.decode(raw, type=_KEY_TYPES[sort])
    except (binascii.Error, ValueError, msgspec.MsgspecError):
        raise InvalidInput(
            "the key of the next page cannot be read; start with the first page"
        ) from None
    if name != sort.value:
        raise InvalidInput("the key of the next page belongs to another order; keep the same sort")
    return key, number
