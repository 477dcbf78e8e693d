"""A value that Postgres cannot hold costs itself: the row is there, and the fault is noted."""

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import text

from models.resources import RESOURCES
from models.run import RunState, RunTrigger
from sandbox.tenant import Request, Response, Tenant
from sandbox.tenant.graph.service import GraphService
from tests.support.mirror import (
    MakeMirror,
    Mirror,
    assert_exact,
    fetch_scalar,
    read_events,
    read_last_seq,
    read_live_rows,
    verify_connection,
)
from worker.store.state.quarantine import MAX_QUARANTINED
from worker.sync.run import run_slice

pytestmark = pytest.mark.first_resources

SECRET = "hunter2"


class Raw(str):
    """JSON that no encoder would write."""

    __slots__ = ()


class Odd:
    """Graph as it is, but that some objects have other values, wherever they come."""

    def __init__(self, mirror: Mirror, changes: Mapping[str, Mapping[str, Any]]) -> None:
        self.mirror, self.changes = mirror, changes
        mirror.nango.before_graph = self

    def __call__(self, request: Request) -> Response | None:
        response = GraphService().handle(self.mirror.tenant, request)
        if "json" not in response.headers.get("content-type", "") or response.status != 200:
            return None
        document = json.loads(response.body)
        rows = document.get("value", [document])
        raws: dict[str, str] = {}
        for row in rows:
            change = self.changes.get(row.get("id", "")) if isinstance(row, dict) else None
            for name, value in (change or {}).items():
                mark = f"@raw{len(raws)}@"
                row[name] = mark if isinstance(value, Raw) else value
                raws |= {mark: value} if isinstance(value, Raw) else {}
        body = json.dumps(document)
        for mark, raw in raws.items():
            body = body.replace(f'"{mark}"', raw)
        return replace(response, body=body.encode("utf-8", "surrogateescape"))


def row_of(mirror: Mirror, resource: str, key: str) -> dict[str, Any]:
    rows = {row["id"]: row for row in read_live_rows(mirror.database, resource)}
    assert key in rows, "the row is there"
    return rows[key]


def noted(mirror: Mirror) -> dict[str, str]:
    statement = text("select key, reason from sync.quarantine where not kept_apart")
    with mirror.database.open_transaction() as db:
        return {row.key: row.reason for row in db.execute(statement)}


def tick(mirror: Mirror) -> RunState:
    with mirror.database.open_transaction() as db:
        db.exec_driver_sql("update sync.streams set due_at = null")
    return run_slice(mirror.runtime, 1, trigger=RunTrigger.SCHEDULED).state


CONTROL = Raw('"a\x01b"')
"""No proper JSON, but nothing is lost."""
LATIN = Raw('"M\udcfcller"')
"""A byte that is not UTF-8, 0xfc, as Python escapes it."""
DEEP = Raw('[{"a":' + "[" * 50_000 + "]" * 50_000 + "}]")
"""Deeper than any version of Python reads."""

USER_VALUES = [
    ("displayName", f"{SECRET}\0b", f"{SECRET}b"),
    ("displayName", f"{SECRET}\ud800b", f"{SECRET}\N{REPLACEMENT CHARACTER}b"),
    ("displayName", 7, None),
    ("displayName", {SECRET: "x"}, None),
    ("displayName", [SECRET], None),
    ("displayName", Raw("1e400000"), None),
    ("displayName", CONTROL, "a\x01b"),
    ("displayName", LATIN, "M\N{REPLACEMENT CHARACTER}ller"),
    ("userPrincipalName", "ü" * 4000, None),
    ("userPrincipalName", "\0", ""),
    ("accountEnabled", "true", None),
    ("accountEnabled", 1, None),
    ("createdDateTime", SECRET, None),
    ("createdDateTime", "", None),
    ("createdDateTime", "2024-02-30T00:00:00Z", None),
    ("createdDateTime", "10000-01-01T00:00:00Z", None),
    ("createdDateTime", "-0044-03-15T00:00:00Z", None),
    ("createdDateTime", "2016-12-31T23:59:60Z", None),
    ("createdDateTime", 1700000000, None),
    ("createdDateTime", Raw("1" * 5000), None),
    ("createdDateTime", "9999-12-31T23:59:59-12:00", None),
    ("proxyAddresses", [None, "smtp:a"], ["smtp:a"]),
    ("proxyAddresses", [None], []),
    ("proxyAddresses", [1, {}, ["x"], "b"], ["b"]),
    ("proxyAddresses", ["a\0", "\udfff"], ["a", "\N{REPLACEMENT CHARACTER}"]),
    ("proxyAddresses", SECRET, None),
    ("assignedLicenses", [{"a\0": "b\0"}], [{"a": "b"}]),
    ("assignedLicenses", [{"a": {"\ud800": ["\udc00"]}}], [{"a": {"\ufffd": ["\ufffd"]}}]),
    ("assignedLicenses", [None, {"a": 1}, 2], [{"a": 1}]),
    ("assignedLicenses", Raw('[{"a":1e400000,"b":2}]'), [{"a": None, "b": 2}]),
    ("assignedLicenses", Raw(f'[{{"a":{"1" * 5000}}}]'), [{"a": None}]),
    ("assignedLicenses", DEEP, None),
    ("assignedLicenses", SECRET, None),
]


def name_of(name: str) -> str:
    resource = RESOURCES["users"]
    fields = {
        "displayName": "display_name",
        "userPrincipalName": "user_principal_name",
        "accountEnabled": "account_enabled",
        "createdDateTime": "created_date_time",
        "proxyAddresses": "proxy_addresses",
        "assignedLicenses": "assigned_licenses",
    }
    assert fields[name] in resource.column_names
    return fields[name]


@pytest.fixture
def odd_users(mirror: Mirror) -> dict[str, tuple[str, Any, Any]]:
    """One user for each value."""
    users = mirror.tenant.users
    return {users.id_at(index): one for index, one in enumerate(USER_VALUES)}


def test_each_odd_value_costs_itself_and_flaps_never(
    mirror: Mirror, odd_users: dict[str, tuple[str, Any, Any]]
) -> None:
    before = {row["id"]: row for row in read_live_rows(mirror.database, "users")}
    Odd(mirror, {key: {name: sent} for key, (name, sent, _) in odd_users.items()})
    assert mirror.sync("users", full=True).state is RunState.PARTIAL
    after = {row["id"]: row for row in read_live_rows(mirror.database, "users")}
    assert after.keys() == before.keys()
    for key, (name, _, stored) in odd_users.items():
        assert after[key] == before[key] | {name_of(name): stored}, name
    reasons = noted(mirror)
    inexact = {key: name for key, (name, sent, _) in odd_users.items() if sent != CONTROL}
    assert reasons.keys() == inexact.keys()
    for key, name in inexact.items():
        assert reasons[key].startswith(f"{name}: "), reasons[key]
        assert SECRET not in reasons[key]
    mark = read_last_seq(mirror.database)
    for _ in range(2):
        assert mirror.sync("users", full=True).state is RunState.PARTIAL
    assert read_last_seq(mirror.database) == mark, "nothing changed, so nothing is told"
    assert noted(mirror) == reasons
    assert verify_connection(mirror.database).problems == []
    mirror.nango.before_graph = None
    assert mirror.sync("users", full=True).state is RunState.SUCCEEDED
    assert fetch_scalar(mirror.database, "select count(*) from sync.quarantine") == 0
    assert_exact(mirror.database, mirror.tenant)


def test_a_first_load_and_a_round_bring_odd_values_too(make_mirror: MakeMirror) -> None:
    tenant = Tenant(seed=81, users=20, groups=4, sites=3, role_definitions=3, role_assignments=4)
    mirror = make_mirror(tenant)
    user, group, site = tenant.users.id_at(2), tenant.groups.id_at(1), _first(tenant, "sites")
    role, assignment = _first(tenant, "role_definitions"), _first(tenant, "role_assignments")
    collection = {"hostname": 7, "dataLocationCode": "EUR"}
    odd = Odd(
        mirror,
        {
            user: {"jobTitle": "a\0b", "employeeHireDate": "0000-00-00"},
            group: {"proxyAddresses": [None], "renewedDateTime": 7},
            site: {
                "siteCollection": collection,
                "webUrl": "\ud800",
            },
            role: {"rolePermissions": [{"a\0": "b"}], "resourceScopes": [None, "/"]},
            assignment: {"principalId": "nobody", "condition": "\0"},
        },
    )
    assert mirror.sync().state is RunState.PARTIAL
    key = site.rpartition(",")[2].lower()
    assert noted(mirror).keys() == {user, group, key, role, assignment}
    assert row_of(mirror, "users", user)["job_title"] == "ab"
    assert row_of(mirror, "groups", group)["proxy_addresses"] == []
    stored = row_of(mirror, "sites", key)
    assert (stored["data_location_code"], stored["web_url"]) == ("EUR", "\ufffd")
    assert row_of(mirror, "role_definitions", role)["resource_scopes"] == ["/"]
    stored = row_of(mirror, "role_assignments", assignment)
    assert (stored["principal_id"], stored["condition"]) == (None, "")
    assert len(tenant.members_of(group)) == fetch_scalar(
        mirror.database,
        "select count(*) from directory.group_members where group_id = :id and deleted_at is null",
        id=group,
    ), "its memberships come all the same"
    mark = read_last_seq(mirror.database)
    tenant.update_user(user, city="Delft")
    tenant.update_group(group, description="new")
    assert tick(mirror) is RunState.PARTIAL
    told = [(one["object_id"], one["changed"]) for one in read_events(mirror.database, after=mark)]
    assert sorted(told) == sorted([(user, ["city"]), (group, ["description"])])
    assert verify_connection(mirror.database).problems == []
    odd.changes = {}
    assert mirror.sync().state is RunState.SUCCEEDED
    assert_exact(mirror.database, tenant)
    assert fetch_scalar(mirror.database, "select count(*) from sync.quarantine") == 0


def _first(tenant: Tenant, kind: str) -> str:
    return str(next(iter(tenant.iterate_live(kind)))["id"])


def test_a_round_that_tells_a_value_aright_ends_its_note_alone(mirror: Mirror) -> None:
    tenant, user = mirror.tenant, mirror.tenant.users.id_at(4)
    tenant.update_user(user, jobTitle="Clerk", city="Delft", officeLocation="7")
    odd = Odd(mirror, {user: {"jobTitle": "a\0b", "city": 7}})
    assert tick(mirror) is RunState.PARTIAL
    assert noted(mirror)[user].count("; it") == 2
    odd.changes = {user: {"jobTitle": "a\0b"}}
    tenant.update_user(user, city="Gouda")
    assert tick(mirror) is RunState.PARTIAL
    assert noted(mirror) == {user: "jobTitle: a NUL character; it was removed"}
    assert row_of(mirror, "users", user)["city"] == "Gouda"
    mirror.nango.before_graph = None
    tenant.update_user(user, jobTitle="Clerk again")
    assert tick(mirror) is RunState.SUCCEEDED
    assert noted(mirror) == {}
    assert_exact(mirror.database, tenant)


def test_a_user_with_an_odd_value_is_deleted_like_any_other(mirror: Mirror) -> None:
    tenant = mirror.tenant
    told, unseen = tenant.users.id_at(4), tenant.users.id_at(5)
    Odd(mirror, {one: {"jobTitle": 7} for one in (told, unseen)})
    assert mirror.sync("users", full=True).state is RunState.PARTIAL
    assert noted(mirror).keys() == {told, unseen}
    tenant.delete_user(told, permanently=True)
    assert tick(mirror) is RunState.PARTIAL
    assert noted(mirror).keys() == {unseen}
    place = len(tenant.change_log["users"])
    tenant.delete_user(unseen, permanently=True)
    tenant.change_log["users"][place] = (0, None)  # no delta tells of it
    assert mirror.sync("users", full=True).state is RunState.SUCCEEDED
    assert noted(mirror) == {}
    assert_exact(mirror.database, tenant)


def test_an_id_that_cannot_be_stored_sets_the_object_apart(mirror: Mirror) -> None:
    assignment = _first(mirror.tenant, "role_assignments")
    for bad in ("a\0b", "a\ud800b", "x" * 401, 7, None):
        odd = Odd(mirror, {assignment: {"id": bad}})
        assert mirror.sync("role_assignments", full=True).state is RunState.PARTIAL
        assert fetch_scalar(mirror.database, "select key from sync.quarantine").startswith(
            "unreadable:"
        )
        odd.changes = {}
        assert mirror.sync("role_assignments", full=True).state is RunState.SUCCEEDED
        assert_exact(mirror.database, mirror.tenant)


def test_more_odd_values_than_can_be_noted_are_not_forgotten(mirror: Mirror) -> None:
    user = mirror.tenant.users.id_at(4)
    with mirror.database.open_transaction() as connection:
        connection.exec_driver_sql(
            "insert into sync.quarantine (connection_id, resource, key, reason, retry_at)"
            " select 1, 'users', 'stand-in ' || n, 'x', now() + interval '1 day'"
            f"   from generate_series(1, {MAX_QUARANTINED}) as n"
        )
    mirror.tenant.update_user(user, jobTitle="Clerk")
    Odd(mirror, {user: {"jobTitle": 7}})
    assert tick(mirror) is RunState.PARTIAL
    assert (
        fetch_scalar(mirror.database, "select count(*) from sync.quarantine") == MAX_QUARANTINED + 1
    )
    with mirror.database.open_transaction() as db:
        db.exec_driver_sql("delete from sync.quarantine where key like 'stand-in %%'")
    assert mirror.sync("users", full=True).state is RunState.PARTIAL
    assert noted(mirror).keys() == {user}


def test_an_organization_with_an_odd_name_is_mirrored(make_mirror: MakeMirror) -> None:
    tenant = Tenant(seed=86, users=5, groups=1)
    mirror = make_mirror(tenant)
    for name, kept in (("a\0b", "ab"), ("\ud800", "\ufffd"), (7, None)):
        Odd(mirror, {tenant.tenant_id: {"displayName": name}})
        assert mirror.sync().state is RunState.SUCCEEDED
        assert fetch_scalar(mirror.database, "select display_name from sync.connections") == kept
    assert_exact(mirror.database, tenant)


def test_an_error_code_with_a_nul_ends_no_slice(mirror: Mirror) -> None:
    body = json.dumps({"error": {"code": "No\0Way\ud800"}}).encode()
    refusal = Response(403, body, {"content-type": "application/json", "request-id": "x"})
    mirror.nango.before_graph = lambda asked: refusal if "/sites/" in asked.path else None
    assert mirror.sync("sites", full=True).state is RunState.PARTIAL


# ---- what Postgres refuses all the same


def refuse(mirror: Mirror, table: str, condition: str, state: str = "22023") -> None:
    """From now on Postgres refuses some rows, for a reason that cannot be foreseen."""
    with mirror.database.open_transaction() as db:
        db.execute(
            text(f"""
                create or replace function public.refuse() returns trigger language plpgsql as $$
                begin raise exception '{SECRET}: %', new using errcode = '{state}'; end $$;
                create trigger refuse before insert or update on directory.{table} for each row
                  when ({condition}) execute function public.refuse()
            """)
        )


def take_all(mirror: Mirror) -> None:
    with mirror.database.open_transaction() as db:
        db.exec_driver_sql("drop function public.refuse() cascade")


def apart(mirror: Mirror) -> dict[str, str]:
    statement = text("select key, reason from sync.quarantine where kept_apart")
    with mirror.database.open_transaction() as db:
        return {row.key: row.reason for row in db.execute(statement)}


@pytest.mark.parametrize("state", ["22P05", "22023", "23514", "23505", "54000", "21000"])
def test_an_object_that_postgres_refuses_costs_itself_alone(
    make_mirror: MakeMirror, state: str
) -> None:
    tenant = Tenant(seed=82, users=40, groups=4)
    mirror = make_mirror(tenant)
    bad = [tenant.users.id_at(3), tenant.users.id_at(30)]
    for one in bad:
        tenant.update_user(one, displayName=SECRET)
    refuse(mirror, "users", f"new.display_name = '{SECRET}'", state)
    assert tick(mirror) is RunState.PARTIAL
    assert fetch_scalar(mirror.database, "select count(*) from directory.users") == 38
    found = f"Postgres rejects one of its values (SQL state {state})"
    assert apart(mirror) == dict.fromkeys(bad, found)
    assert mirror.sync(full=True).state is RunState.PARTIAL, "not even a read by id ends the slice"
    assert verify_connection(mirror.database).problems == []
    take_all(mirror)
    assert mirror.sync().state is RunState.SUCCEEDED
    assert_exact(mirror.database, tenant)


def test_the_row_of_an_object_that_is_refused_later_stays_and_is_not_swept(mirror: Mirror) -> None:
    tenant = mirror.tenant
    group = next(one["id"] for one in tenant.iterate_live("groups") if tenant.members_of(one["id"]))
    before = row_of(mirror, "groups", group)
    refuse(mirror, "groups", f"new.description = '{SECRET}'", "54000")
    tenant.update_group(group, description=SECRET)
    tenant.update_user(tenant.users.id_at(1), city="Delft")
    mark = read_last_seq(mirror.database)
    assert tick(mirror) is RunState.PARTIAL
    assert [one["changed"] for one in read_events(mirror.database, after=mark)] == [["city"]]
    assert mirror.sync("groups", full=True).state is RunState.PARTIAL
    assert row_of(mirror, "groups", group) == before
    assert apart(mirror).keys() == {group}
    take_all(mirror)
    assert mirror.sync().state is RunState.SUCCEEDED
    assert_exact(mirror.database, tenant)


def test_a_unique_index_of_an_operator_costs_the_doubled_object_alone(
    make_mirror: MakeMirror,
) -> None:
    tenant = Tenant(seed=83, users=30, groups=2)
    mirror = make_mirror(tenant)
    with mirror.database.open_transaction() as db:
        db.exec_driver_sql("create unique index on directory.users (connection_id, mail)")
    for index in (4, 9):
        tenant.update_user(tenant.users.id_at(index), mail="twice@contoso.example")
    assert mirror.sync().state is RunState.PARTIAL
    assert len(apart(mirror)) == 1
    assert fetch_scalar(mirror.database, "select count(*) from directory.users") == 29


def test_a_statement_that_is_wrong_is_a_fault_of_ours_still(mirror: Mirror) -> None:
    refuse(mirror, "users", "new.city = 'Delft'", "42883")
    mirror.tenant.update_user(mirror.tenant.users.id_at(1), city="Delft")
    with pytest.raises(Exception, match="SQL state 42883") as told:
        mirror.sync()
    assert SECRET not in str(told.value)
    assert apart(mirror) == {}


def test_a_refusal_of_everything_is_a_fault_of_ours(make_mirror: MakeMirror) -> None:
    mirror = make_mirror(Tenant(seed=84, users=60, groups=2))
    refuse(mirror, "users", "true")
    with pytest.raises(Exception, match="SQL state 22023") as told:
        mirror.sync()
    assert SECRET not in str(told.value)
    assert apart(mirror) == {}
