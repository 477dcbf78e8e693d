"""Sizes, determinism, ids and the truth itself."""

import sys
import tracemalloc
from collections.abc import Callable
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.resources import RESOURCES
from sandbox.tenant import (
    Client,
    Nango,
    Request,
    Tenant,
    build_row,
    compute_checksum,
    serve,
    truth_from_rows,
)
from sandbox.tenant.directory.fields import USERS
from sandbox.tenant.directory.ids import SPACE, Guids
from sandbox.tenant.directory.truth import normalize_time, render_row

TARGET = f"users?$top=999&$select={','.join(USERS.generated)}"


@given(seed=st.integers(), index=st.integers(0, SPACE - 1), prefixes=st.integers(1, 2000))
def test_an_id_gives_its_index_back(seed: int, index: int, prefixes: int) -> None:
    guids = Guids(seed, "users", prefixes)
    assert guids.index_of(guids.id_at(index).upper()) == index


def test_foreign_ids_have_no_index() -> None:
    guids = Guids(1, "users", 7)
    for foreign in ("", "x", "00000000-0000-4000-8000-000000000000", "1" * 36, "²" * 36):
        assert guids.index_of(foreign) is None
    assert guids.index_of(Guids(2, "users", 7).id_at(3)) is None


def test_a_million_users_take_no_memory() -> None:
    tracemalloc.start()
    tenant = Tenant(users=1_000_000, groups=1000, big_groups=1, big_group_members=100_000)
    nango = Nango()
    nango.add_connection("c1", tenant)
    deep = tenant.users.id_at(987_654)
    with serve(nango) as server, Client(server, "c1") as client:
        assert client.get(f"users/{deep}?$select=id").json()["id"] == deep
        assert len(client.get(TARGET).json()["value"]) == 999
        group = f"groups/{tenant.groups.id_at(0)}/members?$top=999&$select=id"
        assert len(client.get(group).json()["value"]) == 999
        tenant.delete_user(deep)
        assert client.get(f"users/{deep}").status_code == 404
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 40_000_000


def count_calls(work: Callable[[], object]) -> int:
    """The Python functions that some work calls: what it costs, on any machine."""
    calls = 0

    def note(_frame: object, event: str, _argument: object) -> None:
        nonlocal calls
        calls += event == "call"

    sys.setprofile(note)
    try:
        work()
    finally:
        sys.setprofile(None)
    return calls


def test_a_page_deep_inside_a_million_costs_as_much_as_the_first() -> None:
    whole_pages = 1001 * 999
    nango = Nango(log_size=0)
    nango.add_connection("c1", Tenant(users=whole_pages))
    headers = {
        "authorization": f"Bearer {nango.key}",
        "connection-id": "c1",
        "provider-config-key": "entra",
    }
    first, users = "$top=999&$select=id", 0

    def get(query: str) -> bytes:
        return nango.handle(Request("GET", "/proxy/v1.0/users", query, headers)).body

    query = first
    while query:
        deepest, body = query, get(query)
        users += body.count(b'"id":')
        _, found, rest = body[:4000].partition(b'"@odata.nextLink":"')
        query = rest.partition(b'"')[0].decode().partition("?")[2] if found else ""
    assert users == whole_pages
    assert count_calls(lambda: get(deepest)) < 1.2 * count_calls(lambda: get(first))


@pytest.mark.parametrize("cache", [0, 50])
def test_the_same_seed_serves_the_same_bytes(cache: int) -> None:
    bodies = []
    for _ in range(2):
        tenant = Tenant(seed=11, users=300, page_cache=cache)
        nango = Nango()
        nango.add_connection("c1", tenant)
        seen = []
        with serve(nango) as server, Client(server, "c1") as client:
            for number in range(3):
                tenant.mutate(40, Random(number))
                for target in ("users", "groups/delta", "sites/getAllSites", "organization"):
                    seen += [client.get(target).content for _ in range(2)]
        bodies.append((seen, tenant.truth()))
    assert bodies[0] == bodies[1]


def test_other_seeds_are_other_tenants() -> None:
    one, two = Tenant(seed=1), Tenant(seed=2)
    assert one.tenant_id != two.tenant_id
    assert not {u["id"] for u in one.iterate_live("users")} & {
        u["id"] for u in two.iterate_live("users")
    }


def test_cached_pages_notice_changes() -> None:
    tenant = Tenant(users=100, page_cache=10)
    nango = Nango()
    nango.add_connection("c1", tenant)
    with serve(nango) as server, Client(server, "c1") as client:
        for _ in range(3):
            found = client.walk(f"users?$top=20&$select={','.join(USERS.generated)}").objects
            assert (
                truth_from_rows(build_row("users", one) for one in found) == tenant.truth()["users"]
            )
            tenant.mutate(10)


@pytest.mark.parametrize("resource", RESOURCES)
def test_truth_is_the_checksum_of_what_lives(resource: str) -> None:
    tenant = Tenant(users=400, groups=20, sites=60, role_assignments=40)
    for _ in range(3):
        rows = [build_row(resource, one) for one in tenant.iterate_live(resource)]
        truth = tenant.truth()[resource]
        assert (len(rows), compute_checksum(reversed(rows))) == (truth.count, truth.checksum)
        tenant.mutate(150)


def test_ids_are_unique_in_every_resource() -> None:
    tenant = Tenant(users=3000, groups=300, sites=300, role_assignments=50)
    for resource in RESOURCES:
        rows = [build_row(resource, one) for one in tenant.iterate_live(resource)]
        assert len({(r.get("group_id"), r.get("id", r.get("member_id"))) for r in rows}) == len(
            rows
        )


def test_users_look_like_a_directorys() -> None:
    users = list(Tenant(users=2000).iterate_live("users"))
    filled = [sum(v not in (None, []) for v in user.values()) for user in users]
    size = sum(len(render_row({k: v for k, v in u.items() if v is not None})) for u in users)
    assert 20 < sum(filled) / len(users) < 30
    assert 1200 < size / len(users) < 1500
    moments = [user["createdDateTime"] for user in users]
    assert {len(m) for m in moments} == {20, 23, 24, 28}
    assert any(user["lastPasswordChangeDateTime"] == "0001-01-01T00:00:00Z" for user in users)
    assert {user["userType"] for user in users} == {"Member", "Guest"}


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("2024-05-06T07:08:09Z", "2024-05-06T07:08:09.000000Z"),
        ("2024-05-06T07:08:09.12Z", "2024-05-06T07:08:09.120000Z"),
        ("2024-05-06T07:08:09.1234567Z", "2024-05-06T07:08:09.123456Z"),
        ("2024-05-06T09:08:09+02:00", "2024-05-06T07:08:09.000000Z"),
        ("2299-01-01T00:00:00Z", "2299-01-01T00:00:00.000000Z"),
        ("0001-01-01T00:00:00Z", None),
    ],
)
def test_times_are_utc_with_microseconds(given: str, expected: str | None) -> None:
    assert normalize_time(given) == expected


def test_a_row_has_the_mirrors_columns() -> None:
    """Spelled out here, so that neither side can drift unseen."""
    site: dict[str, Any] = {
        "id": "contoso.sharepoint.example,AAAAAAAA-0000-4000-8000-00000000000A,"
        "BBBBBBBB-0000-4000-8000-00000000000B",
        "siteCollection": {"hostName": "contoso.sharepoint.example", "dataLocationCode": "EUR"},
        "root": {},
        "webUrl": "https://contoso.sharepoint.example",
    }
    assert build_row("sites", site) == {
        "id": "bbbbbbbb-0000-4000-8000-00000000000b",
        "composite_id": "contoso.sharepoint.example,AAAAAAAA-0000-4000-8000-00000000000A,"
        "BBBBBBBB-0000-4000-8000-00000000000B",
        "site_collection_id": "aaaaaaaa-0000-4000-8000-00000000000a",
        "hostname": "contoso.sharepoint.example",
        "display_name": None,
        "name": None,
        "description": None,
        "web_url": "https://contoso.sharepoint.example",
        "is_personal_site": None,
        "is_root": True,
        "data_location_code": "EUR",
        "created_date_time": None,
        "last_modified_date_time": None,
    }
    edge = {"groupId": "A", "id": "B", "@odata.type": "#microsoft.graph.servicePrincipal"}
    assert build_row("group_members", edge) == {
        "group_id": "a",
        "member_id": "b",
        "member_type": "service_principal",
    }
    user = build_row("users", {"id": "A", "proxyAddresses": ["smtp:x", "SMTP:y"]})
    assert (user["id"], user["proxy_addresses"]) == ("a", ["SMTP:y", "smtp:x"])
    assert list(user) == [
        "id",
        "user_principal_name",
        "display_name",
        "given_name",
        "surname",
        "mail",
        "mail_nickname",
        "job_title",
        "department",
        "company_name",
        "office_location",
        "employee_id",
        "employee_type",
        "employee_hire_date",
        "user_type",
        "account_enabled",
        "created_date_time",
        "business_phones",
        "mobile_phone",
        "city",
        "state",
        "country",
        "postal_code",
        "street_address",
        "usage_location",
        "preferred_language",
        "proxy_addresses",
        "other_mails",
        "on_premises_sync_enabled",
        "on_premises_immutable_id",
        "on_premises_sam_account_name",
        "on_premises_distinguished_name",
        "on_premises_security_identifier",
        "on_premises_last_sync_date_time",
        "external_user_state",
        "last_password_change_date_time",
        "assigned_licenses",
        "creation_type",
        "external_user_state_change_date_time",
        "on_premises_domain_name",
        "on_premises_user_principal_name",
        "on_premises_extension_attributes",
        "employee_org_data",
        "is_resource_account",
        "password_policies",
        "security_identifier",
    ]


def test_a_property_can_be_created_unset() -> None:
    tenant = Tenant()
    user_id = tenant.create_user(displayName=..., jobTitle=None)
    props = tenant.users.props_at(tenant.index_of("users", user_id))
    assert "displayName" not in props
    assert props["jobTitle"] is None


def test_wrong_mutations_are_refused() -> None:
    tenant = Tenant()
    user_id, group_id = tenant.users.id_at(0), tenant.groups.id_at(0)
    with pytest.raises(ValueError, match="taken"):
        tenant.create_user(id=user_id)
    with pytest.raises(LookupError):
        tenant.add_member(group_id, "00000000-0000-4000-8000-000000000000")
    with pytest.raises(ValueError, match="not deleted"):
        tenant.restore_user(user_id)
    with pytest.raises(ValueError, match="unset"):
        tenant.update_user(user_id, mail=...)
    tenant.delete_user(user_id, permanently=True)
    with pytest.raises(LookupError):
        tenant.restore_user(user_id)
    with pytest.raises(LookupError):
        tenant.update_group(user_id, displayName="x")
