"""What is known of each permission follows from what the syncs have learnt of the resources."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.connection import ConnectionStatus
from models.queues import ALL_QUEUES
from models.resources import EDGES_IN, RESOURCES, STREAMED
from models.stream import Phase
from worker.conditions.facts import ConnectionFacts, ServiceFacts, StreamFacts
from worker.conditions.reasons import ACCESS_REJECTED, NOT_OFFERED, TENANT_UNKNOWN
from worker.conditions.reasons import NOT_LICENSED as NO_LICENCE
from worker.conditions.resource_age import ResourceAge
from worker.core.errors import InvalidInput
from worker.overview.fleet import Fleet, judge
from worker.overview.permission_listing import PermissionFilter, PermissionSort, list_permissions
from worker.overview.permissions import (
    UNLOCKS,
    PermissionState,
    build_permission_rows,
    judge_permissions,
    list_permission_requests,
    write_whole_request,
)
from worker.page.permissions import group_states

NOW = datetime(2026, 11, 29, 12, tzinfo=UTC)
GRANTED, MISSING = PermissionState.GRANTED, PermissionState.MISSING
NOT_THERE, UNKNOWN = PermissionState.NOT_OFFERED, PermissionState.UNKNOWN
NOT_LICENSED = PermissionState.NOT_LICENSED
ORGANIZATION = "Organization.Read.All"


def connection(**values: Any) -> ConnectionFacts:
    """A connection that has read everything, but for what is given."""
    ages = tuple(ResourceAge(one.name, NOW.timestamp() - 60, 300) for one in STREAMED)
    facts: dict[str, Any] = {
        "id": 1,
        "integration": "entra",
        "nango_id": "n-1",
        "provider": "microsoft",
        "status": ConnectionStatus.ACTIVE.value,
        "created_at": NOW,
        "requested_full": False,
        "broken_count": 0,
        "events": 0,
        "last_aborted": False,
        "is_first_load": False,
        "quarantined": 0,
        "inexact": 0,
        "unresolved": 0,
        "freshness": ages,
        "late_at": NOW.timestamp() + 900,
        "streams": (),
        "graph_pauses": {},
    }
    nothing: dict[str, Any] = dict.fromkeys(ConnectionFacts.__struct_fields__)
    return ConnectionFacts(**(nothing | facts | values))


def refuse(resource: str, reason: str = "Graph answered 403") -> StreamFacts:
    return StreamFacts(
        connection_id=1,
        resource=resource,
        phase=Phase.REFUSED.value,
        mode="delta",
        reason=reason,
        due_at=None,
        out_of_budget=False,
        best_effort=False,
        drift=None,
        full_walk_at=None,
        held=0,
    )


def build_fleet(facts: list[ConnectionFacts]) -> Fleet:
    return judge(facts, ServiceFacts(now=NOW, tick_seconds=5, queues=ALL_QUEUES))


def test_what_was_read_is_granted() -> None:
    assert judge_permissions(connection()) == dict.fromkeys(UNLOCKS, GRANTED)


def tell(states: Mapping[str, PermissionState], *said: str) -> list[tuple[PermissionState, int]]:
    """Each state that a row of the page tells, and how many permissions it names."""
    return [(one.state, len(one.names)) for one in group_states(states, frozenset(said))]


def test_a_row_tells_what_is_not_granted_the_missing_first() -> None:
    everything = judge_permissions(connection())
    assert tell(everything) == []
    some = {
        **everything,
        "User.Read.All": NOT_LICENSED,
        "Sites.Read.All": MISSING,
        "Group.Read.All": PermissionState.NOT_USED,
    }
    assert tell(some) == [(MISSING, 1), (NOT_LICENSED, 1), (PermissionState.NOT_USED, 1)]
    assert tell(some, "Group.Read.All") == [(MISSING, 1), (NOT_LICENSED, 1)]
    assert tell({**everything, "Sites.Read.All": UNKNOWN}) == [(UNKNOWN, 1)]


def test_a_row_does_not_name_all_others_where_none_is_known() -> None:
    unknown = dict.fromkeys(UNLOCKS, UNKNOWN)
    assert tell(unknown) == [(UNKNOWN, 0)]
    assert tell({**unknown, ORGANIZATION: MISSING}) == [(MISSING, 1), (UNKNOWN, 0)]


def test_every_permission_of_the_registry_has_a_row() -> None:
    assert {one.permission for one in RESOURCES.values()} == {*UNLOCKS} - {ORGANIZATION}
    unlocked = [name for resources in UNLOCKS.values() for name in resources]
    assert sorted(unlocked) == sorted(RESOURCES)


def test_a_refused_resource_lacks_its_permission_and_no_other() -> None:
    states = dict(judge_permissions(connection(streams=(refuse("sites"),))))
    assert states.pop("Sites.Read.All") is MISSING
    assert set(states.values()) == {GRANTED}


def test_what_a_tenant_does_not_offer_is_not_missing() -> None:
    reason = f"Graph answered 400: {NOT_OFFERED}"
    states = judge_permissions(connection(streams=(refuse("sites", reason),)))
    assert states["Sites.Read.All"] is NOT_THERE


def test_what_a_tenant_has_no_licence_for_is_not_missing() -> None:
    reason = f"Graph answers 400 AadPremiumLicenseRequired; {NO_LICENCE}"
    states = judge_permissions(connection(streams=(refuse("sites", reason),)))
    assert states["Sites.Read.All"] is NOT_LICENSED
    states = judge_permissions(connection(streams=(refuse("role_assignments", reason),)))
    assert states["RoleManagement.Read.Directory"] is GRANTED, "definitions are read with it"


def test_one_refused_resource_of_two_is_enough() -> None:
    states = judge_permissions(connection(streams=(refuse("role_assignments"),)))
    assert states["RoleManagement.Read.Directory"] is MISSING


def test_a_refused_parent_leaves_the_permission_of_its_edges_open() -> None:
    states = judge_permissions(connection(streams=(refuse("groups"),)))
    assert states["Group.Read.All"] is MISSING
    assert states["GroupMember.Read.All"] is UNKNOWN


def test_what_was_never_read_is_unknown() -> None:
    never = tuple(ResourceAge(one.name, None, None) for one in STREAMED)
    assert set(judge_permissions(connection(freshness=never)).values()) == {UNKNOWN}


@pytest.mark.parametrize(
    ("reason", "state"), [(f"{TENANT_UNKNOWN}: 403", MISSING), (ACCESS_REJECTED, UNKNOWN)]
)
def test_a_broken_connection_tells_nothing_of_what_it_read_before(
    reason: str, state: PermissionState
) -> None:
    broken = connection(
        status=ConnectionStatus.BROKEN.value, status_reason=reason, streams=(refuse("sites"),)
    )
    states = dict(judge_permissions(broken))
    assert states.pop(ORGANIZATION) is state
    assert states.pop("Sites.Read.All") is MISSING
    assert set(states.values()) == {UNKNOWN}


def test_one_text_asks_for_all_that_is_missing() -> None:
    lacking = connection(name="Contoso", streams=(refuse("sites"), refuse("users")))
    (row,) = build_permission_rows(build_fleet([lacking]))
    text = write_whole_request(row.connection, row.requests)
    assert text is not None
    assert "cannot read users and sites of your Microsoft 365 tenant (Contoso)" in text
    assert "lacks the permissions User.Read.All and Sites.Read.All" in text
    assert "adminconsent" in text
    (whole,) = build_permission_rows(build_fleet([connection()]))
    assert write_whole_request(whole.connection, whole.requests) is None


def test_connections_that_are_not_synced_have_no_row() -> None:
    facts = [
        connection(id=number, status=status.value)
        for number, status in enumerate(ConnectionStatus, start=1)
    ]
    shown = {one.connection.facts.status for one in build_permission_rows(build_fleet(facts))}
    assert shown == {"active", "broken", "paused"}


def test_a_look_is_judged_once_for_all_who_ask() -> None:
    fleet = build_fleet([connection()])
    assert fleet.derive(build_permission_rows) is fleet.derive(build_permission_rows)


_REFUSALS = st.lists(st.sampled_from([one.name for one in STREAMED]), unique=True)


@given(
    refusals=st.lists(_REFUSALS, max_size=12),
    sort=st.sampled_from(PermissionSort),
    limit=st.integers(1, 5),
    state=st.sampled_from([None, *PermissionState]),
)
def test_pages_hold_every_match_once_and_counts_agree(
    refusals: list[list[str]], sort: PermissionSort, limit: int, state: PermissionState | None
) -> None:
    facts = [
        connection(id=number, name="Same", streams=tuple(map(refuse, refused)))
        for number, refused in enumerate(refusals, start=1)
    ]
    fleet = build_fleet(facts)
    wanted = PermissionFilter(state=state)
    found: list[int] = []
    after = None
    while True:
        page = list_permissions(fleet, wanted, sort=sort, after=after, limit=limit)
        found += [one.connection.id for one in page.rows]
        assert len(page.rows) <= limit
        after = page.next_key
        if after is None:
            break
    every = build_permission_rows(fleet)
    matching = [one for one in every if state is None or state in one.states.values()]
    assert sorted(found) == [one.connection.id for one in matching]
    assert page.total == len(matching)
    assert page.lacking == sum(bool(refused) for refused in refusals)
    for name in UNLOCKS:
        assert sum(page.counts[name].values()) == len(facts)
    if sort is PermissionSort.MISSING:
        lacks = {one.connection.id: len(one.missing) for one in every}
        shown = [lacks[number] for number in found]
        assert shown == sorted(shown, reverse=True)


@pytest.mark.parametrize("key", ["", "%%%", "WyJuYW1lIl0"])
def test_a_key_that_is_none_is_refused(key: str) -> None:
    with pytest.raises(InvalidInput):
        list_permissions(build_fleet([]), PermissionFilter(), after=key)


def test_a_key_of_another_order_is_refused() -> None:
    fleet = build_fleet([connection(id=1), connection(id=2)])
    page = list_permissions(fleet, PermissionFilter(), sort=PermissionSort.NAME, limit=1)
    with pytest.raises(InvalidInput, match="another order"):
        list_permissions(fleet, PermissionFilter(), sort=PermissionSort.ID, after=page.next_key)


def test_a_permission_is_asked_for_once_with_all_that_was_refused() -> None:
    roles = [refuse("role_definitions"), refuse("role_assignments")]
    fleet = build_fleet([connection(streams=(*roles, refuse("groups")))])
    (one,) = fleet.in_use
    groups, both = list_permission_requests(one)
    assert groups.resources == ["groups", *(edge.name for edge in EDGES_IN["groups"])]
    assert both.resources == ["role_definitions", "role_assignments"]
    assert len(both.reasons) == 2
    assert "cannot read role definitions and role assignments of" in both.text
    whole = write_whole_request(one, [groups, both])
    assert whole is not None
    assert f"{groups.permission} and {both.permission}" in whole
    assert write_whole_request(one, [both]) == both.text
    assert write_whole_request(one, []) is None


def test_who_lacks_the_organization_is_asked_for_that_first() -> None:
    broken = {"status": ConnectionStatus.BROKEN.value, "status_reason": TENANT_UNKNOWN}
    (one,) = build_fleet([connection(**broken, streams=(refuse("sites"),))]).in_use
    requests = list_permission_requests(one)
    assert [it.permission for it in requests] == [ORGANIZATION, "Sites.Read.All"]
    assert write_whole_request(one, requests) == requests[0].text


def test_what_a_customer_is_asked_has_the_client_id_of_the_settings() -> None:
    service = ServiceFacts(now=NOW, tick_seconds=5, queues=ALL_QUEUES, client_ids=("an-id",))
    fleet = judge([connection(streams=(refuse("sites"), refuse("groups")))], service)
    requests = list_permission_requests(fleet.in_use[0])
    texts = [*(one.text for one in requests), write_whole_request(fleet.in_use[0], requests)]
    assert len(texts) == 3
    assert all(one and "client_id=an-id" in one for one in texts)
