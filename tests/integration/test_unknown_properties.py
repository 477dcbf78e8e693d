"""Properties that one tenant's Graph does not know: left out, told, and asked for again."""

import json
from typing import Any

import pytest
from sqlalchemy import text

from models.resources import RESOURCES
from models.run import RunState
from sandbox.tenant import Request, Response, Tenant
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
from worker.store.state.overview import load_streams_overview

pytestmark = pytest.mark.first_resources

COLUMNS = {
    "users.employeeOrgData": "employee_org_data",
    "users.jobTitle": "job_title",
    "users.assignedLicenses": "assigned_licenses",
    "users.onPremisesExtensionAttributes": "on_premises_extension_attributes",
    "groups.visibility": "visibility",
    "groups.isAssignableToRole": "is_assignable_to_role",
    "groups.resourceBehaviorOptions": "resource_behavior_options",
    "sites.isPersonalSite": "is_personal_site",
    "sites.root": "is_root",
}


def stream(mirror: Mirror, column: str, name: str = "users") -> Any:
    return fetch_scalar(
        mirror.database, f"select {column} from sync.streams where resource = '{name}'"
    )


def rows(mirror: Mirror, resource: str) -> dict[str, dict[str, Any]]:
    return {row["id"]: row for row in read_live_rows(mirror.database, resource)}


def told_of(mirror: Mirror, mark: int, column: str) -> list[dict[str, Any]]:
    """Events behind a mark that tell of a column."""
    found = read_events(mirror.database, after=mark)
    return [one for one in found if column in (one["changed"] or ())]


@pytest.fixture(params=[True, False], ids=["named", "unnamed"])
def names(request: pytest.FixtureRequest) -> bool:
    """Whether Graph says which property it is."""
    return bool(request.param)


@pytest.mark.parametrize("unknown", ["users.employeeOrgData", "groups.visibility", "sites.root"])
def test_a_first_load_does_without_a_property_that_graph_does_not_know(
    make_mirror: MakeMirror, unknown: str, *, names: bool
) -> None:
    tenant = Tenant(seed=41, users=40, groups=6, sites=5)
    tenant.options.unknown_properties, tenant.options.names_unknown_property = {unknown}, names
    mirror = make_mirror(tenant)
    report = mirror.sync()
    assert report.state is RunState.SUCCEEDED, report.message
    name, _, prop = unknown.partition(".")
    assert stream(mirror, "left_out", name) == [prop]
    assert stream(mirror, "mode", name) == "plain"
    assert {row[COLUMNS[unknown]] for row in rows(mirror, name).values()} == {None}
    assert len(rows(mirror, name)) == tenant.truth()[name].count
    tenant.options.unknown_properties = set()
    assert mirror.sync(full=True).state is RunState.SUCCEEDED
    assert stream(mirror, "left_out", name) is None
    assert_exact(mirror.database, tenant)


@pytest.mark.parametrize("unknown", [*COLUMNS])
def test_a_property_that_is_gone_leaves_its_column_as_it_was(mirror: Mirror, unknown: str) -> None:
    name, _, prop = unknown.partition(".")
    column, tenant = COLUMNS[unknown], mirror.tenant
    before, mark = rows(mirror, name), read_last_seq(mirror.database)
    tenant.options.unknown_properties = {unknown}
    if name == "users":
        tenant.update_user(tenant.users.id_at(3), displayName="Another Name")
    for full in (False, True, False):
        report = mirror.sync(full=full)
        assert report.state is RunState.SUCCEEDED, report.message
        after = rows(mirror, name)
        assert {key: row[column] for key, row in after.items()} == {
            key: row[column] for key, row in before.items()
        }
        assert told_of(mirror, mark, column) == []
        assert verify_connection(mirror.database).problems == []
    if name == "users":
        assert after[tenant.users.id_at(3)]["display_name"] == "Another Name"
    assert stream(mirror, "left_out", name) == [prop]
    tenant.options.unknown_properties = set()
    assert mirror.sync(full=True).state is RunState.SUCCEEDED
    assert_exact(mirror.database, tenant)


def test_several_properties_are_left_out_in_few_calls(mirror: Mirror, *, names: bool) -> None:
    tenant = mirror.tenant
    gone = ["city", "employeeType", "surname", "usageLocation"]
    tenant.options.unknown_properties = {f"users.{one}" for one in gone}
    tenant.options.names_unknown_property = names
    mirror.take_call_count()
    assert mirror.sync("users").state is RunState.SUCCEEDED
    assert stream(mirror, "left_out") == gone
    assert mirror.take_call_count() < 20


def test_changes_of_other_properties_go_on_to_arrive(mirror: Mirror) -> None:
    tenant, mark = mirror.tenant, read_last_seq(mirror.database)
    tenant.options.unknown_properties = {"users.jobTitle"}
    mirror.sync()
    one = tenant.users.id_at(4)
    title = rows(mirror, "users")[one]["job_title"]
    tenant.update_user(one, displayName="Renamed", jobTitle="Not to be seen")
    created = tenant.create_user(displayName="New")
    calls = mirror.nango.calls.graph["users"]
    assert mirror.sync().state is RunState.SUCCEEDED
    assert mirror.nango.calls.graph["users"] == calls, "it came by delta"
    found = rows(mirror, "users")
    assert (found[one]["display_name"], found[one]["job_title"]) == ("Renamed", title)
    assert found[str(created)]["display_name"] == "New"
    assert told_of(mirror, mark, "job_title") == []
    assert verify_connection(mirror.database).problems == []


def test_what_is_left_out_is_asked_for_again_by_the_weekly_walk_and_not_before(
    mirror: Mirror,
) -> None:
    tenant = mirror.tenant
    tenant.options.unknown_properties = {"users.jobTitle", "groups.visibility", "sites.root"}
    mirror.sync()
    tenant.options.unknown_properties = set()
    for _ in range(2):
        mirror.sync()
    assert [stream(mirror, "left_out", one) for one in ("users", "groups", "sites")] == [
        ["jobTitle"],
        ["visibility"],
        ["root"],
    ]
    with mirror.database.open_transaction() as db:
        db.execute(
            text(
                "update sync.streams set full_due_at = now(),"
                " left_out_at = left_out_at - interval '8 days'"
            )
        )
    assert mirror.sync().state is RunState.SUCCEEDED
    assert (
        fetch_scalar(mirror.database, "select count(*) from sync.streams where left_out <> '{}'")
        == 0
    )
    assert_exact(mirror.database, tenant)


def test_what_is_left_out_is_shown(mirror: Mirror) -> None:
    mirror.tenant.options.unknown_properties = {"users.jobTitle"}
    report = mirror.sync()
    assert report.resources["users"]["left_out"] == ["jobTitle"]
    with mirror.database.open_transaction() as db:
        streams = {one["resource"]: one for one in load_streams_overview(db, 1)}
    assert "jobTitle" in streams["users"]["reason"]
    assert streams["groups"]["reason"] is None


def test_a_tenant_that_does_not_know_its_keys_is_refused(make_mirror: MakeMirror) -> None:
    tenant = Tenant(seed=41, users=10, groups=3)
    tenant.options.unknown_properties = {"users.id"}
    mirror = make_mirror(tenant)
    assert mirror.sync().state is RunState.PARTIAL
    assert stream(mirror, "left_out") is None


@pytest.mark.parametrize("name", ["users", "groups"])
def test_a_tenant_without_delta_does_without_a_property_as_well(
    make_mirror: MakeMirror, name: str
) -> None:
    tenant = Tenant(seed=42, users=30, groups=8, sites=3)
    tenant.options.no_delta = True
    mirror = make_mirror(tenant)
    mirror.sync()
    prop = RESOURCES[name].sent[-1].graph_name
    tenant.options.unknown_properties = {f"{name}.{prop}"}
    tenant.mutate(10)
    assert mirror.sync().state is RunState.SUCCEEDED
    assert (stream(mirror, "mode", name), stream(mirror, "left_out", name)) == ("list_only", [prop])
    assert len(rows(mirror, name)) == tenant.truth()[name].count
    tenant.options.unknown_properties = set()
    assert mirror.sync(full=True).state is RunState.SUCCEEDED
    assert_exact(mirror.database, tenant)


def send_unasked(mirror: Mirror, unknown: str) -> None:
    """Refuse to be asked for a property of users, and send it with every user all the same."""
    tenant = mirror.tenant
    tenant.options.unknown_properties = {f"users.{unknown}"}

    def answer(request: Request) -> Response | None:
        if not request.path.endswith("/users") or unknown in request.query:
            return None
        body = json.dumps({"value": list(tenant.iterate_live("users"))}).encode()
        return Response(200, body, {"content-type": "application/json", "request-id": "simulated"})

    mirror.nango.before_graph = answer


def test_a_first_load_stores_no_value_of_a_property_that_it_left_out(
    make_mirror: MakeMirror,
) -> None:
    mirror = make_mirror(Tenant(seed=41, users=12))
    send_unasked(mirror, "jobTitle")
    assert mirror.sync().state is RunState.SUCCEEDED
    assert stream(mirror, "left_out") == ["jobTitle"]
    found = rows(mirror, "users")
    assert len(found) == 12
    assert {row["job_title"] for row in found.values()} == {None}
    told = [e["after"] for e in read_events(mirror.database) if e["resource"] == "users"]
    assert {after["job_title"] for after in told} == {None}
    assert verify_connection(mirror.database).problems == []


def test_a_full_walk_changes_no_value_of_a_property_that_it_left_out(mirror: Mirror) -> None:
    before, mark = rows(mirror, "users"), read_last_seq(mirror.database)
    one = mirror.tenant.users.id_at(3)
    mirror.tenant.update_user(one, displayName="Renamed", jobTitle="Not to be seen")
    send_unasked(mirror, "jobTitle")
    assert mirror.sync("users", full=True).state is RunState.SUCCEEDED
    after = rows(mirror, "users")
    assert after[one]["display_name"] == "Renamed"
    assert after[one]["job_title"] == before[one]["job_title"]
    assert told_of(mirror, mark, "job_title") == []
    assert verify_connection(mirror.database).problems == []
