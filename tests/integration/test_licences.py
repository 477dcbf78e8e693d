"""A resource that a tenant has no licence for is left out: no failure, and asked for once a day."""

import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from sqlalchemy import text

from models.resources import RESOURCES
from models.run import RunState, RunTrigger
from sandbox.tenant import Request, Response, Tenant, TenantOptions
from tests.support.mirror import MakeMirror, Mirror, assert_exact, fetch_scalar, read_events
from worker.conditions.condition import Code, Severity
from worker.conditions.reasons import NOT_LICENSED
from worker.ops.cli.status_lines import render_freshness
from worker.overview.fleet import FleetConnection, load_fleet
from worker.overview.permissions import PermissionState, judge_permissions
from worker.overview.rows import build_connection_row
from worker.page.connection_rows import list_resources
from worker.store.state.metrics import (
    count_late_connections,
    count_streams_by_phase,
    load_freshness,
)
from worker.store.state.overview import load_streams_overview
from worker.sync.report import SyncReport
from worker.sync.run import run_slice

NAME = "role_assignments"
OTHERS = {name for name, one in RESOURCES.items() if not one.is_optional} - {NAME}
REASON = f"Graph answers 400 AadPremiumLicenseRequired; {NOT_LICENSED}"


@pytest.fixture
def unlicensed(make_mirror: MakeMirror) -> Mirror:
    """A tenant that never had the licence, after its first load."""
    options = TenantOptions(unlicensed_resources={NAME})
    made = make_mirror(Tenant(seed=3, users=40, groups=6, sites=4, options=options))
    report = made.sync()
    assert (report.state, report.message) == (RunState.SUCCEEDED, None)
    return made


def look(mirror: Mirror) -> FleetConnection:
    (one,) = load_fleet(mirror.database, mirror.runtime.settings).in_use
    return one


def stream(mirror: Mirror, column: str, name: str = NAME) -> Any:
    return fetch_scalar(
        mirror.database, f"select {column} from sync.streams where resource = '{name}'"
    )


def execute(mirror: Mirror, statement: str) -> None:
    with mirror.database.open_transaction() as db:
        db.execute(text(statement))


def tick(mirror: Mirror) -> SyncReport:
    return run_slice(mirror.runtime, 1, trigger=RunTrigger.SCHEDULED)


def is_due_within(mirror: Mirror, least: str, most: str) -> bool:
    between = f"due_at between now() + interval '{least}' and now() + interval '{most}'"
    return bool(stream(mirror, between))


def ago(mirror: Mirror, age: str) -> None:
    """Let all that was stored be so much older, and all streams due."""
    moments = ("fresh_at", "full_walk_at", "first_complete_at", "walk_started_at")
    changes = ", ".join(f"{one} = {one} - interval '{age}'" for one in moments)
    execute(mirror, f"update sync.streams set {changes}, due_at = now()")
    execute(mirror, f"update sync.connections set created_at = created_at - interval '{age}'")


def test_a_first_load_succeeds_without_it_and_reports_why(unlicensed: Mirror) -> None:
    assert stream(unlicensed, "phase") == "refused"
    assert stream(unlicensed, "mode") == "plain", "no other way of reading it is tried"
    assert stream(unlicensed, "reason") == REASON
    report = fetch_scalar(unlicensed.database, "select resources from sync.runs")[NAME]
    assert (report["phase"], report["problem"]) == ("not_licensed", REASON)
    asked = unlicensed.nango.calls.graph["roleManagement/directory/roleAssignments"]
    assert asked == 1, "and is asked for once"
    with unlicensed.database.open_transaction() as db:
        streams = load_streams_overview(db, 1)
        phases = count_streams_by_phase(db)
    assert {one["resource"]: one["phase"] for one in streams}[NAME] == "not_licensed"
    rows = list_resources(
        look(unlicensed).facts, streams, dict.fromkeys(RESOURCES, 0), datetime.now(UTC)
    )
    assert {one.name: one.phase for one in rows}[NAME] == "not licensed"
    assert phases[NAME, "not_licensed"] == 1
    assert (NAME, "refused") not in phases


def test_it_is_asked_for_once_a_day_with_the_calls_that_are_sent_anyway(unlicensed: Mirror) -> None:
    assert is_due_within(unlicensed, "23 hours", "25 hours")
    path = "roleManagement/directory/roleAssignments"
    execute(unlicensed, f"update sync.streams set due_at = now() where resource <> '{NAME}'")
    unlicensed.nango.calls.reset()
    assert tick(unlicensed).state is RunState.SUCCEEDED
    assert unlicensed.nango.calls.graph[path] == 0
    execute(unlicensed, "update sync.streams set due_at = now() where resource <> 'sites'")
    unlicensed.nango.calls.reset()
    assert tick(unlicensed).state is RunState.SUCCEEDED
    assert unlicensed.nango.calls.graph[path] == 1
    assert unlicensed.nango.calls.total == 1
    assert is_due_within(unlicensed, "23 hours", "25 hours")


def test_nothing_is_late_and_nothing_needs_attention(unlicensed: Mirror) -> None:
    execute(unlicensed, "update sync.connections set created_at = now() - interval '9 days'")
    one = look(unlicensed)
    (condition,) = one.conditions
    assert (condition.code, condition.severity) == (Code.PERMISSION_MISSING, Severity.INFO)
    assert condition.resource == NAME
    assert condition.sentence == f"{NAME} is not read: {REASON}"
    assert condition.customer_text is None
    assert one.facts.fresh_at is not None, "the whole is as fresh as what can be read"
    assert one.facts.late_at > one.facts.fresh_at
    with unlicensed.database.open_transaction() as db:
        view = db.execute(text("select resource, phase, is_late from analytics.freshness"))
        freshness = {row.resource: (row.phase, row.is_late) for row in view}
        ages = load_freshness(db)
        assert count_late_connections(db) == 0
        assert db.execute(text("select fresh_at from analytics.connections")).scalar() is not None
    assert freshness[NAME] == ("not_licensed", False)
    row = build_connection_row(one, datetime.now(UTC))
    assert row["freshness"][NAME]["is_licensed"] is False
    assert f"; {NAME} not licensed" in render_freshness(row["freshness"])
    read = {name for name, (phase, _) in freshness.items() if phase not in ("not_licensed", "off")}
    assert read == OTHERS
    assert set(ages) == OTHERS
    assert not any(one.late or one.never_read for one in ages.values())


def test_the_views_know_the_reason_by_the_text_that_is_stored(unlicensed: Mirror) -> None:
    text_of = "select pg_get_viewdef('analytics.freshness'::regclass)"
    assert f"'%{NOT_LICENSED}'" in fetch_scalar(unlicensed.database, text_of)


def test_its_permission_has_a_state_of_its_own(unlicensed: Mirror) -> None:
    permission = RESOURCES[NAME].permission
    states = judge_permissions(look(unlicensed).facts)
    assert states[permission] is PermissionState.GRANTED, "role definitions were read with it"
    needing = {one.name for one in RESOURCES.values() if one.permission == permission}
    unlicensed.tenant.options.unlicensed_resources |= {*needing, "sites"}
    execute(unlicensed, "update sync.streams set fresh_at = null, due_at = now()")
    unlicensed.sync()
    states = judge_permissions(look(unlicensed).facts)
    assert states[permission] is PermissionState.NOT_LICENSED
    assert states[RESOURCES["sites"].permission] is PermissionState.NOT_LICENSED


def test_a_licence_that_is_bought_begins_with_a_first_load(unlicensed: Mirror) -> None:
    unlicensed.tenant.options.unlicensed_resources.clear()
    execute(unlicensed, "update sync.streams set due_at = now()")
    before = len(read_events(unlicensed.database))
    assert tick(unlicensed).state is RunState.SUCCEEDED
    events = read_events(unlicensed.database)[before:]
    assert events
    assert all((one["resource"], one["initial"]) == (NAME, True) for one in events)
    assert look(unlicensed).conditions == ()
    assert_exact(unlicensed.database, unlicensed.tenant)


def test_a_licence_that_is_lost_leaves_the_rows_as_they_were(mirror: Mirror) -> None:
    mirror.tenant.options.unlicensed_resources = {NAME}
    before = len(read_events(mirror.database))
    execute(mirror, "update sync.streams set due_at = now()")
    assert tick(mirror).state is RunState.SUCCEEDED
    assert is_due_within(mirror, "55 minutes", "65 minutes"), "it may be a slip of Graph's"
    ago(mirror, "25 hours")
    assert tick(mirror).state is RunState.SUCCEEDED
    assert is_due_within(mirror, "23 hours", "25 hours")
    assert len(read_events(mirror.database)) == before
    assert_exact(mirror.database, mirror.tenant)
    (condition,) = look(mirror).conditions
    assert condition.code is Code.PERMISSION_MISSING
    assert condition.since == stream(mirror, "fresh_at")
    assert "its rows are those of " in condition.sentence


def answer(status: int, code: str, message: str) -> Response:
    body = {"error": {"code": code, "message": message, "innerError": {"request-id": "x"}}}
    return Response(status, json.dumps(body).encode(), {"content-type": "application/json"})


NO_PREMIUM = answer(
    403,
    "Authentication_RequestFromNonPremiumTenantOrB2CTenant",
    "Neither tenant is B2C or tenant doesn't have premium license",
)


def refuse_sites(times: int | None) -> Callable[[Request], Response | None]:
    left = [10**6 if times is None else times]

    def respond(request: Request) -> Response | None:
        if "getAllSites" not in request.path or not left[0]:
            return None
        left[0] -= 1
        return NO_PREMIUM

    return respond


def test_an_answer_for_unlicensed_tenants_that_a_licensed_one_gets_at_times_passes(
    make_mirror: MakeMirror,
) -> None:
    mirror = make_mirror(Tenant(seed=5, users=20, groups=3, sites=5))
    mirror.nango.before_graph = refuse_sites(2)
    assert mirror.sync().state is RunState.SUCCEEDED
    assert_exact(mirror.database, mirror.tenant)
    mirror.nango.before_graph = refuse_sites(None)
    assert mirror.sync("sites").state is RunState.SUCCEEDED
    assert stream(mirror, "mode", "sites") == "plain", "it is not searched instead"
    assert stream(mirror, "reason", "sites").endswith(NOT_LICENSED)


def test_a_cursor_waits_while_the_licence_is_lacking(mirror: Mirror) -> None:
    cursor = stream(mirror, "delta_link", "groups")
    mirror.tenant.options.unlicensed_resources = {"groups"}
    mirror.tenant.mutate(20)
    assert mirror.sync("groups").state is RunState.SUCCEEDED
    assert stream(mirror, "reason", "groups") == REASON
    assert stream(mirror, "delta_link", "groups") == cursor
    mirror.tenant.options.unlicensed_resources.clear()
    mirror.nango.calls.reset()
    assert mirror.sync().state is RunState.SUCCEEDED
    assert mirror.nango.calls.graph["groups"] == 0, "no list was read"
    assert_exact(mirror.database, mirror.tenant)


def test_a_walk_that_is_refused_between_two_pages_goes_on_there(make_mirror: MakeMirror) -> None:
    options = TenantOptions(role_page_size=5)
    mirror = make_mirror(Tenant(seed=3, users=60, groups=6, sites=4, options=options))
    mirror.nango.before_graph = lambda request: (
        answer(400, "AadPremiumLicenseRequired", "no") if _is_second_page(request) else None
    )
    assert mirror.sync().state is RunState.SUCCEEDED
    assert stream(mirror, "phase") == "refused"
    mirror.nango.before_graph = None
    assert mirror.sync().state is RunState.SUCCEEDED
    assert_exact(mirror.database, mirror.tenant)


def _is_second_page(request: Request) -> bool:
    return request.path.endswith("roleAssignments") and "skiptoken" in request.query.lower()


def test_a_permission_that_is_named_within_a_message_is_asked_for(make_mirror: MakeMirror) -> None:
    options = TenantOptions(ungranted_resources={NAME})
    mirror = make_mirror(Tenant(seed=3, users=20, groups=3, sites=2, options=options))
    report = mirror.sync()
    assert report.state is RunState.PARTIAL
    permission = RESOURCES[NAME].permission
    assert report.message == (
        f"{NAME}: Graph answers 403 PermissionScopeNotGranted; grant the application permission "
        f"{permission} and consent to it again"
    )
    one = look(mirror)
    assert [condition.code for condition in one.conditions] == [Code.PERMISSION_MISSING]
    assert permission in (one.conditions[0].customer_text or "")
    assert judge_permissions(one.facts)[permission] is PermissionState.MISSING
    assert is_due_within(mirror, "55 minutes", "65 minutes")
    mirror.tenant.options.ungranted_resources.clear()
    assert mirror.sync().state is RunState.SUCCEEDED
    assert_exact(mirror.database, mirror.tenant)
