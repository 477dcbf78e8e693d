"""Filtered, sorted and paged lists of customers with their permissions."""

import base64
import binascii
from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

import msgspec

from worker.core.errors import InvalidInput
from worker.overview.fleet import Fleet
from worker.overview.listing import ConnectionFilter, match_ids
from worker.overview.permissions import (
    PermissionRow,
    PermissionState,
    build_permission_rows,
    count_states,
)


class PermissionSort(StrEnum):
    """The order of a list; the id decides between equal ones."""

    MISSING = "missing"
    """The most missing permissions first, then by name."""
    NAME = "name"
    ID = "id"


@dataclass(frozen=True)
class PermissionFilter:
    """Which customers are wanted; what is not given matches all."""

    permission: str | None = None
    """Only those that have this one in the ``state``; None: any of them."""
    state: PermissionState | None = None
    text: str = ""

    @property
    def is_empty(self) -> bool:
        return self.state is None and not self.text.strip()


@dataclass(frozen=True)
class PermissionPage:
    """A page of a list, and counts of all that the text matches."""

    rows: Sequence[PermissionRow]
    total: int
    customers: int
    """Those that the text matches, whatever their permissions."""
    lacking: int
    """Of these, how many lack any permission."""
    counts: Mapping[str, Mapping[PermissionState, int]]
    next_key: str | None
    """Where the next page begins; None after the last one."""


_Key = tuple[int, str, int]


@dataclass(frozen=True)
class _Matches:
    keyed: Sequence[tuple[_Key, PermissionRow]]
    customers: int
    lacking: int
    counts: Mapping[str, Mapping[PermissionState, int]]


_KEYS: Final[Mapping[PermissionSort, Callable[[PermissionRow], _Key]]] = {
    PermissionSort.MISSING: lambda one: (-len(one.missing), *_get_name_key(one)),
    PermissionSort.NAME: lambda one: (0, *_get_name_key(one)),
    PermissionSort.ID: lambda one: (0, "", one.connection.id),
}


def list_permissions(
    fleet: Fleet,
    wanted: PermissionFilter,
    *,
    sort: PermissionSort = PermissionSort.MISSING,
    after: str | None = None,
    limit: int = 50,
) -> PermissionPage:
    """Return a page of the customers that match; ``after`` is the ``next_key`` of the page before.

    Raises InvalidInput.
    """
    found = fleet.derive(_sort_matches, wanted, sort)
    keyed, start = found.keyed, 0
    if after is not None:
        start = bisect_right(keyed, _decode_key(after, sort), key=lambda item: item[0])
    shown = keyed[start : start + limit]
    is_last = start + limit >= len(keyed)
    return PermissionPage(
        rows=[one for _, one in shown],
        total=len(keyed),
        customers=found.customers,
        lacking=found.lacking,
        counts=found.counts,
        next_key=None if is_last or not shown else _encode_key(sort, shown[-1][0]),
    )


def _sort_matches(fleet: Fleet, wanted: PermissionFilter, sort: PermissionSort) -> _Matches:
    """Return all that match, in order: once for everybody who asks within the same look."""
    named, key = _match_text(fleet, wanted.text), _KEYS[sort]
    matches = [(key(one), one) for one in named if _is_wanted(one, wanted)]
    return _Matches(
        keyed=sorted(matches, key=lambda item: item[0]),
        customers=len(named),
        lacking=sum(bool(one.missing) for one in named),
        counts=count_states(named),
    )


def _get_name_key(one: PermissionRow) -> tuple[str, int]:
    return one.connection.facts.title.casefold(), one.connection.id


def _match_text(fleet: Fleet, text: str) -> Sequence[PermissionRow]:
    rows = fleet.derive(build_permission_rows)
    if not text.strip():
        return rows
    ids = frozenset(match_ids(fleet, ConnectionFilter(text=text)))
    return [one for one in rows if one.connection.id in ids]


def _is_wanted(row: PermissionRow, wanted: PermissionFilter) -> bool:
    if wanted.state is None:
        return True
    if wanted.permission is None:
        return wanted.state in row.states.values()
    return row.states[wanted.permission] is wanted.state


def _encode_key(sort: PermissionSort, key: _Key) -> str:
    return base64.urlsafe_b64encode(msgspec.json.encode((sort.value, *key))).decode().rstrip("=")


def _decode_key(text: str, sort: PermissionSort) -> _Key:
    try:
        raw = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
        name, rank, title, number = msgspec.json.decode(raw, type=tuple[str, int, str, int])
    except (binascii.Error, ValueError, msgspec.MsgspecError):
        raise InvalidInput(
            "the key of the next page cannot be read; start with the first page"
        ) from None
    if name != sort.value:
        raise InvalidInput("the key of the next page belongs to another order; keep the same sort")
    return rank, title, number
