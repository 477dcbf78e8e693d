"""Privileged Identity Management: who may activate a role, and who holds one how and until when."""

from typing import Any

import pytest
from sqlalchemy import text

from models.event_type import EVENT_TYPES
from models.resources import RESOURCES
from models.run import RunState, RunTrigger
from sandbox.tenant import KindCounts, Tenant, TenantOptions
from tests.support.mirror import (
    MakeMirror,
    MakeSynced,
    Mirror,
    assert_exact,
    fetch_scalar,
    live_counts,
    read_events,
    read_last_seq,
)
from worker.conditions.condition import Code, Severity
from worker.conditions.reasons import NOT_LICENSED
from worker.erasure.erase import erase
from worker.erasure.target import find_target
from worker.overview.fleet import load_fleet
from worker.store.state.connections import find_connection
from worker.sync.run import run_slice

ELIGIBLE, HELD = "role_eligibility_schedule_instances", "role_assignment_schedule_instances"
NAMES = (ELIGIBLE, HELD)
PATHS = {name: RESOURCES[name].source.path.strip("/") for name in NAMES}
KINDS = KindCounts(pim=True, eligibilities=5)
HOUR = 3600.0


@pytest.fixture
def mirror(make_synced: MakeSynced) -> Mirror:
    """A small tenant that uses PIM, mirrored."""
    return make_synced(seed=3, users=60, groups=8, sites=6, kinds=KINDS)


def tick(mirror: Mirror) -> RunState:
    """A run by the clock, a quarter of an hour later: only roles are due."""
    roles = [*NAMES, "role_definitions", "role_assignments"]
    with mirror.database.open_transaction() as db:
        db.execute(
            text("update sync.streams set due_at = now() where resource = any(:roles)"),
            {"roles": roles},
        )
    return run_slice(mirror.runtime, 1, trigger=RunTrigger.SCHEDULED).state


def row_of(mirror: Mirror, object_id: str) -> Any:
    statement = text(
        "select * from directory.role_assignment_schedule_instances where id = :id"
        " and deleted_at is null"
    )
    with mirror.database.open_transaction() as db:
        return db.execute(statement, {"id": object_id}).one_or_none()


def list_types(mirror: Mirror, after: int) -> dict[tuple[str, str], str]:
    """The type of each event about schedules, by resource and id."""
    return {
        (one["resource"], one["object_id"]): EVENT_TYPES[one["resource"], one["change"]]
        for one in read_events(mirror.database, after=after)
        if one["resource"] in NAMES
    }


def test_eligible_and_held_roles_are_mirrored_exactly(mirror: Mirror) -> None:
    counts = live_counts(mirror.database)
    assert counts[ELIGIBLE] == 5
    assert counts[HELD] >= counts["role_assignments"] > 0
    assert_exact(mirror.database, mirror.tenant)


def test_an_activation_comes_and_goes_each_with_its_events(mirror: Mirror) -> None:
    tenant, mark = mirror.tenant, read_last_seq(mirror.database)
    role = tenant.create_role_definition(displayName="Key Keeper")
    eligible = tenant.make_eligible(role, tenant.users.id_at(9))
    assert tick(mirror) is RunState.SUCCEEDED
    assert_exact(mirror.database, tenant)
    assert list_types(mirror, mark) == {(ELIGIBLE, eligible): "role_eligibility.granted"}
    mark, activated = read_last_seq(mirror.database), tenant.activate_role(eligible, seconds=HOUR)
    assert tick(mirror) is RunState.SUCCEEDED
    assert_exact(mirror.database, tenant)
    assert list_types(mirror, mark) == {(HELD, activated): "role_assignment_instance.created"}
    mark = read_last_seq(mirror.database)
    tenant.advance(2 * HOUR)
    assert tick(mirror) is RunState.SUCCEEDED
    assert_exact(mirror.database, tenant)
    assert list_types(mirror, mark) == {(HELD, activated): "role_assignment_instance.deleted"}
    mark, again = read_last_seq(mirror.database), tenant.activate_role(eligible, seconds=HOUR)
    tenant.end_eligibility(eligible)
    assert tick(mirror) is RunState.SUCCEEDED
    assert_exact(mirror.database, tenant)
    assert list_types(mirror, mark) == {
        (HELD, again): "role_assignment_instance.restored",
        (ELIGIBLE, eligible): "role_eligibility.revoked",
    }


def test_permanent_assignments_and_activations_can_be_told_apart(mirror: Mirror) -> None:
    tenant, user = mirror.tenant, mirror.tenant.users.id_at(9)
    roles = [tenant.create_role_definition(displayName=name) for name in "abc"]
    permanent = tenant.assign_role(roles[0], user)
    for_a_time = tenant.assign_role(roles[1], user, seconds=24 * HOUR)
    activated = tenant.activate_role(tenant.make_eligible(roles[2], user), seconds=HOUR)
    assert tick(mirror) is RunState.SUCCEEDED
    held = {one: row_of(mirror, one) for one in (permanent, for_a_time, activated)}
    assert {one: (row.assignment_type, row.end_date_time is None) for one, row in held.items()} == {
        permanent: ("Assigned", True),
        for_a_time: ("Assigned", False),
        activated: ("Activated", False),
    }
    for row in held.values():
        assert (row.principal_id, row.member_type) == (user, "Direct")
        assert row.role_assignment_origin_id == row.id
    lasts = held[activated].end_date_time - held[activated].start_date_time
    assert lasts.total_seconds() == HOUR


def test_an_activation_that_is_shorter_than_the_clock_is_never_seen(mirror: Mirror) -> None:
    tenant, mark = mirror.tenant, read_last_seq(mirror.database)
    role = tenant.create_role_definition(displayName="Key Keeper")
    eligible = tenant.make_eligible(role, tenant.users.id_at(9))
    activated = tenant.activate_role(eligible, seconds=60)
    tenant.advance(120)
    assert tick(mirror) is RunState.SUCCEEDED
    assert (HELD, activated) not in list_types(mirror, mark)
    assert_exact(mirror.database, tenant)


def test_many_activations_in_any_order_are_followed_exactly(mirror: Mirror) -> None:
    for _ in range(4):
        mirror.tenant.mutate(40)
        mirror.tenant.advance(HOUR)
        assert mirror.sync().state is RunState.SUCCEEDED
        assert_exact(mirror.database, mirror.tenant)


def test_a_tenant_without_the_licence_is_complete_without_them(make_mirror: MakeMirror) -> None:
    options = TenantOptions(licences={"p1"})
    mirror = make_mirror(Tenant(seed=3, users=40, groups=6, sites=4, kinds=KINDS, options=options))
    report = mirror.sync()
    assert (report.state, report.message) == (RunState.SUCCEEDED, None)
    assert {name: mirror.nango.calls.graph[path] for name, path in PATHS.items()} == dict.fromkeys(
        NAMES, 1
    )
    stored = fetch_scalar(
        mirror.database,
        "select jsonb_object_agg(resource, reason) from sync.streams where reason is not null",
    )
    reason = f"Graph answers 400 AadPremiumLicenseRequired; {NOT_LICENSED}"
    assert stored == dict.fromkeys(NAMES, reason)
    daily = "due_at between now() + interval '23 hours' and now() + interval '25 hours'"
    assert fetch_scalar(
        mirror.database,
        f"select array_agg(resource order by resource desc) from sync.streams where {daily}"
        " and phase = 'refused'",
    ) == list(NAMES)
    (one,) = load_fleet(mirror.database, mirror.runtime.settings).in_use
    assert {(each.resource, each.code, each.severity) for each in one.conditions} == {
        (name, Code.PERMISSION_MISSING, Severity.INFO) for name in NAMES
    }
    assert all(each.customer_text is None for each in one.conditions)
    mark = read_last_seq(mirror.database)
    mirror.tenant.options.licences.add("p2")
    assert tick(mirror) is RunState.SUCCEEDED
    assert_exact(mirror.database, mirror.tenant)
    bought = read_events(mirror.database, after=mark)
    assert {(each["resource"], each["initial"]) for each in bought} == {
        (name, True) for name in NAMES
    }


@pytest.mark.parametrize("name", NAMES)
def test_a_scope_that_was_not_granted_is_named(make_mirror: MakeMirror, name: str) -> None:
    options = TenantOptions(ungranted_resources={name})
    mirror = make_mirror(Tenant(seed=3, users=20, groups=3, sites=2, kinds=KINDS, options=options))
    report = mirror.sync()
    assert report.state is RunState.PARTIAL
    assert report.message == (
        f"{name}: Graph answers 403 PermissionScopeNotGranted; grant the application permission"
        f" {RESOURCES[name].permission} and consent to it again"
    )
    mirror.tenant.options.ungranted_resources.clear()
    assert mirror.sync().state is RunState.SUCCEEDED
    assert_exact(mirror.database, mirror.tenant)


def test_an_erased_person_is_in_no_schedule_and_no_event_of_one(mirror: Mirror) -> None:
    tenant, user = mirror.tenant, mirror.tenant.users.id_at(9)
    role = tenant.create_role_definition(displayName="Key Keeper")
    eligible = tenant.make_eligible(role, user)
    activated = tenant.activate_role(eligible, seconds=HOUR)
    assert tick(mirror) is RunState.SUCCEEDED
    with mirror.database.open_transaction() as db:
        target = find_target(db, find_connection(db, "1"), user, None)
    erase(mirror.database, target, lambda _table, _rows: None)
    for _ in range(2):
        for name in NAMES:
            left = f"select count(*) from directory.{name} x where x::text ~* cast(:any as text)"
            told = "select count(*) from events.change_events x where x::text ~* cast(:any as text)"
            pattern = f"{user}|{eligible}|{activated}"
            assert fetch_scalar(mirror.database, left, any=pattern) == 0
            assert fetch_scalar(mirror.database, told, any=pattern) == 0
        assert tick(mirror) is RunState.SUCCEEDED, "and no sync brings them back"
