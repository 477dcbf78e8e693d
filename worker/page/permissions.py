"""The page of permissions: which customer has granted what, and the text to send to who has not."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Final

import msgspec
from msgspec import Meta

from worker.core.errors import InvalidInput
from worker.overview.fleet import Fleet
from worker.overview.permission_listing import (
    PermissionFilter,
    PermissionSort,
    list_permissions,
)
from worker.overview.permissions import (
    UNLOCKS,
    PermissionRequest,
    PermissionRow,
    PermissionState,
    count_lacking,
    write_whole_request,
)
from worker.page.page import PageQuery, View, Visit
from worker.web.problem import name_mistakes
from worker.web.queries import MAX_ROWS, SearchText

ROWS: Final = 50
STATE_SEVERITIES: Final = {
    PermissionState.GRANTED: "well",
    PermissionState.MISSING: "warning",
    PermissionState.NOT_OFFERED: "info",
    PermissionState.NOT_LICENSED: "info",
    PermissionState.NOT_USED: "info",
    PermissionState.UNKNOWN: "unknown",
}
"""The mark of each state; its word says the same."""

_NOT_GRANTED: Final = (
    PermissionState.MISSING,
    PermissionState.UNKNOWN,
    PermissionState.NOT_LICENSED,
    PermissionState.NOT_OFFERED,
    PermissionState.NOT_USED,
)
"""What a row tells, what a person can mend first."""
_EVERYWHERE: Final = (PermissionState.GRANTED, PermissionState.NOT_USED)
"""What is said once above the table where it holds for each customer."""
_MOST_NAMES: Final = 3
"""Of more that are not known, and are all the rest, the names are not repeated."""

PermissionName = Annotated[str, Meta(max_length=60)]


class PermissionsQuery(PageQuery, frozen=True, kw_only=True):
    """Which customers, in which order."""

    permission: PermissionName | None = None
    state: PermissionState | None = None
    text: SearchText = ""
    sort: PermissionSort = PermissionSort.MISSING
    after: Annotated[str, Meta(max_length=3000)] = ""
    limit: Annotated[int, Meta(ge=1, le=MAX_ROWS)] = ROWS


class StateCount(msgspec.Struct, frozen=True):
    """How many customers have a permission in a state."""

    state: PermissionState
    count: int
    is_chosen: bool


class PermissionSummary(msgspec.Struct, frozen=True):
    """A permission, what it unlocks, and how many customers have it."""

    name: str
    unlocks: str
    counts: list[StateCount]


class StateGroup(msgspec.Struct, frozen=True):
    """The permissions of a customer that are in one state."""

    state: PermissionState
    names: Sequence[str]
    """None: all that the row does not name otherwise."""


class CustomerPermissions(msgspec.Struct, frozen=True):
    """A customer, with what is not granted."""

    id: int
    name: str | None
    label: str
    status: str
    groups: Sequence[StateGroup]
    granted: int
    missing: int
    requests: Sequence[PermissionRequest]
    customer_text: str | None
    """What asks for all of them."""


def count_lacking_customers(fleet: Fleet) -> int:
    """Return how many customers lack a permission."""
    return fleet.derive(count_lacking)


def show_permissions(visit: Visit) -> View:
    query: PermissionsQuery = visit.query
    wanted = PermissionFilter(query.permission, _choose_state(query), query.text)
    if query.permission is not None and query.permission not in UNLOCKS:
        with name_mistakes("permission"):
            raise InvalidInput(f"must be one of {', '.join(UNLOCKS)}")
    with name_mistakes("after"):
        page = list_permissions(
            visit.load_fleet(),
            wanted,
            sort=query.sort,
            after=query.after or None,
            limit=query.limit,
        )
    everywhere = _find_everywhere(page.counts, page.customers)
    said = frozenset(name for names in everywhere.values() for name in names)
    summaries = [
        PermissionSummary(
            name,
            _describe_unlocked(resources),
            [
                StateCount(
                    state,
                    page.counts[name][state],
                    (query.permission, wanted.state) == (name, state),
                )
                for state in PermissionState
            ],
        )
        for name, resources in UNLOCKS.items()
    ]
    values = {
        "query": query,
        "state": wanted.state,
        "summaries": summaries,
        "names": list(UNLOCKS),
        "states": list(PermissionState),
        "marks": STATE_SEVERITIES,
        "everywhere": everywhere,
        "rows": [_build_row(one, said) for one in page.rows],
        "total": page.total,
        "customers": page.customers,
        "lacking": page.lacking,
        "is_filtered": not wanted.is_empty,
        "next_key": page.next_key,
    }
    return View("permissions.html", "Permissions", values)


def _choose_state(query: PermissionsQuery) -> PermissionState | None:
    """Return the wanted state; a permission without one means who lacks it."""
    if query.state is None and query.permission is not None:
        return PermissionState.MISSING
    return query.state


def _describe_unlocked(resources: tuple[str, ...]) -> str:
    if not resources:
        return "everything: it shows which tenant a connection belongs to"
    return ", ".join(one.replace("_", " ") for one in resources)


def _find_everywhere(
    counts: Mapping[str, Mapping[PermissionState, int]], customers: int
) -> dict[PermissionState, list[str]]:
    """Return the permissions that are granted, or not used, at each of several customers."""
    if customers < 2:
        return {}
    found = {
        state: [name for name in UNLOCKS if counts[name][state] == customers]
        for state in _EVERYWHERE
    }
    return {state: names for state, names in found.items() if names}


def group_states(
    states: Mapping[str, PermissionState], said: frozenset[str]
) -> Sequence[StateGroup]:
    """Return what is not granted, by state; without what is ``said`` of all customers."""
    has_granted = PermissionState.GRANTED in states.values()
    found = []
    for state in _NOT_GRANTED:
        names = [name for name, one in states.items() if one is state and name not in said]
        is_rest = state is PermissionState.UNKNOWN and not has_granted
        if names:
            is_told = not is_rest or len(names) <= _MOST_NAMES
            found.append(StateGroup(state, names if is_told else ()))
    return found


def _build_row(row: PermissionRow, said: frozenset[str]) -> CustomerPermissions:
    facts, requests = row.connection.facts, row.requests
    return CustomerPermissions(
        id=facts.id,
        name=facts.name,
        label=facts.label,
        status=facts.status,
        groups=group_states(row.states, said),
        granted=sum(one is PermissionState.GRANTED for one in row.states.values()),
        missing=len(row.missing),
        requests=requests,
        customer_text=write_whole_request(row.connection, requests),
    )
