"""Resources that settings switch off and on, for all customers and for one; properties left out."""

import json
import os
import re
import signal
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import pytest
from click.testing import CliRunner
from msgspec import structs
from sqlalchemy import text

from models.resources import RESOURCES
from models.run import RunState, RunTrigger
from models.sink import SinkStart
from sandbox.tenant import Tenant
from tests.integration.test_property_list import name_servers
from tests.integration.test_relay import RelayEnvironment
from tests.support.consumer import Fold
from tests.support.fold import find_differences
from tests.support.mirror import (
    OFF,
    MakeMirror,
    MakeSynced,
    Mirror,
    compute_mirror_truth,
    fetch_scalar,
    verify_connection,
)
from worker.core.settings import Settings
from worker.events.envelope import EnvelopeBuilder
from worker.events.epochs import load_epoch
from worker.events.event import Position
from worker.events.read import read_events_after
from worker.ops.cli.status import status
from worker.overview.fleet import load_fleet
from worker.overview.permissions import PermissionState, judge_permissions
from worker.page.connection_rows import list_resources
from worker.store.mirror import clear
from worker.store.state.claims import claim_due
from worker.store.state.metrics import count_late_connections
from worker.store.state.overview import load_streams_overview
from worker.sync.connections.discover import discover
from worker.sync.run import run_slice

SITES: Final = "sites/getAllSites"


def execute(mirror: Mirror, statement: str, **values: Any) -> None:
    with mirror.database.open_transaction() as db:
        db.execute(text(statement), values)


def wish(mirror: Mirror, **wanted: Any) -> None:
    """Write the customer's metadata in Nango, and let it be discovered."""
    (connection,) = mirror.nango.connections
    connection.metadata = {"tenant_mirror": wanted}
    discover(mirror.database, mirror.runtime.nango, mirror.runtime.settings)


def tick(mirror: Mirror) -> None:
    """Slices until all that is due is done, by the clock."""
    execute(mirror, "update sync.streams set due_at = now() where off_at is null")
    state = RunState.RUNNING
    while state is RunState.RUNNING:
        state = run_slice(mirror.runtime, 1, trigger=RunTrigger.SCHEDULED).state
    assert state is RunState.SUCCEEDED


def read_told(mirror: Mirror) -> list[tuple[str, list[str], str | None]]:
    """What events say of the coverage: resource, columns that are dropped, state."""
    statement = text(
        "select after from events.change_events where change = 'coverage_changed' order by seq"
    )
    with mirror.database.open_transaction() as db:
        found = db.execute(statement).scalars().all()
    return [(one["resource"], one["dropped"], one["state"]) for one in found]


def read_object_events(mirror: Mirror, resource: str) -> list[Any]:
    statement = text(
        "select change, initial, before, after from events.change_events"
        " where resource = :resource order by seq"
    )
    with mirror.database.open_transaction() as db:
        return list(db.execute(statement, {"resource": resource}))


def count_rows(mirror: Mirror, resource: str) -> int:
    """Rows of a table, deleted ones included."""
    found: int = fetch_scalar(mirror.database, f"select count(*) from directory.{resource}")
    return found


def consume(mirror: Mirror) -> Fold:
    """What a consumer of all events holds."""
    with mirror.database.open_transaction() as db:
        make = EnvelopeBuilder("tenantmirror", 1, None, load_epoch(db).id).build
        events = read_events_after(db, Position(1, 0, None), 100_000)
    fold = Fold()
    fold.apply(json.loads(make(event)) for event in events)
    return fold


def assert_told(mirror: Mirror) -> None:
    """The events tell the tables to a consumer, and the tables lead back to the events."""
    fold = consume(mirror)
    assert (fold.errors, fold.gaps) == ([], {})
    assert list(find_differences(mirror.database, fold)) == []
    assert verify_connection(mirror.database).problems == []


def assert_exact_but(mirror: Mirror, *off: str) -> None:
    """Everything is exact, and of what is off there is nothing."""
    found, truth = compute_mirror_truth(mirror.database), mirror.tenant.truth()
    for name in RESOURCES:
        if name in off:
            assert count_rows(mirror, name) == 0
        else:
            assert found[name] == truth[name]
    assert_told(mirror)


@pytest.fixture
def mirror(make_synced: MakeSynced) -> Mirror:
    return make_synced(seed=31, users=24, groups=6, sites=5)


@pytest.mark.parametrize("name", ["sites", "groups", "users", "role_definitions"])
def test_a_resource_that_is_switched_off_is_gone_at_once_and_told_once(
    mirror: Mirror, name: str
) -> None:
    inside = [one for one in RESOURCES if RESOURCES[one].parent == name]
    before = len(read_object_events(mirror, name))
    wish(mirror, resources={name: False})
    mirror.nango.calls.reset()
    tick(mirror)
    assert read_told(mirror) == [(one, [], "off") for one in (*reversed(inside), name)]
    assert len(read_object_events(mirror, name)) == before, "no event for each object"
    assert_exact_but(mirror, name, *inside)
    tick(mirror)
    mirror.sync(full=True)
    assert len(read_told(mirror)) == 1 + len(inside)
    asked = {path for path, number in mirror.nango.calls.graph.items() if number}
    assert not any(RESOURCES[name].source.path[1:] in path for path in asked), asked
    assert_exact_but(mirror, name, *inside)


def test_switched_on_again_it_is_a_first_load(mirror: Mirror) -> None:
    wish(mirror, resources={"groups": False})
    tick(mirror)
    mirror.tenant.update_group(mirror.tenant.groups.id_at(2), description="meanwhile")
    before = len(read_object_events(mirror, "groups"))
    wish(mirror)
    tick(mirror)
    events = read_object_events(mirror, "groups")[before:]
    assert len(events) == mirror.tenant.truth()["groups"].count
    assert all(event.change == "created" and event.initial for event in events)
    assert [state for _, _, state in read_told(mirror)] == ["off"] * 3 + ["on"] * 3
    assert_exact_but(mirror)
    mirror.tenant.delete_group(mirror.tenant.groups.id_at(3))
    tick(mirror)
    wish(mirror, resources={"groups": False})
    tick(mirror)
    wish(mirror, resources={})
    tick(mirror)
    assert_exact_but(mirror)


def test_settings_of_the_service_switch_for_all_and_a_customer_may_differ(
    make_mirror: MakeMirror,
) -> None:
    mirror = make_mirror(Tenant(seed=32, users=8, groups=2, sites=3))
    settings = structs.replace(mirror.runtime.settings, resources_off=("sites", "group_members"))
    mirror.runtime = replace(mirror.runtime, settings=settings)
    mirror.nango.calls.reset()
    assert mirror.sync().state is RunState.SUCCEEDED
    assert_exact_but(mirror, "sites", "group_members")
    assert read_told(mirror) == [], "nothing was ever told of them"
    assert not mirror.nango.calls.graph[SITES]
    wish(mirror, resources={"sites": True, "group_members": True})
    mirror.sync("sites")
    assert_exact_but(mirror, "group_members")
    mirror.sync(full=True)
    assert_exact_but(mirror)


def test_edges_can_be_off_while_their_parents_are_read(mirror: Mirror) -> None:
    wish(mirror, resources={"group_members": False})
    tick(mirror)
    assert read_told(mirror) == [("group_members", [], "off")]
    group, user = mirror.tenant.groups.id_at(1), mirror.tenant.users.id_at(1)
    mirror.tenant.delete_user(user)
    tick(mirror)
    mirror.tenant.restore_user(user)
    mirror.tenant.add_member(group, user)
    mirror.tenant.update_group(group, description="x")
    tick(mirror)
    assert_exact_but(mirror, "group_members")
    mirror.nango.calls.reset()
    mirror.sync(full=True)
    assert not [one for one in mirror.nango.calls.graph if "members" in one.lower()]
    assert_exact_but(mirror, "group_members")
    wish(mirror)
    tick(mirror)
    mirror.sync("groups", full=True)
    assert_exact_but(mirror)
    members = read_object_events(mirror, "group_members")
    assert members[-1].initial


def test_a_property_is_left_out_for_one_customer_behind_one_event(mirror: Mirror) -> None:
    names = ["mobilePhone", "businessPhones"]
    columns = ["business_phones", "mobile_phone"]
    deleted, updated = mirror.tenant.users.id_at(2), mirror.tenant.users.id_at(3)
    mirror.tenant.delete_user(deleted)
    tick(mirror)
    before = len(read_object_events(mirror, "users"))
    marks = "select array_agg(changed_at order by id) from directory.users"
    times = fetch_scalar(mirror.database, marks)
    wish(mirror, leave_out={"users": names})
    tick(mirror)
    assert read_told(mirror) == [("users", columns, None)]
    assert len(read_object_events(mirror, "users")) == before
    filled = "select count(mobile_phone) + count(business_phones) from directory.users"
    assert fetch_scalar(mirror.database, filled) == 0, "deleted rows included"
    assert fetch_scalar(mirror.database, marks) == times
    assert_told(mirror)
    mirror.nango.calls.reset()
    mirror.tenant.update_user(updated, mobilePhone="+1 555", jobTitle="Judge")
    tick(mirror)
    mirror.tenant.delete_user(updated)
    tick(mirror)
    mirror.sync(full=True)
    later = read_object_events(mirror, "users")[before:]
    assert [event.change for event in later] == ["updated", "deleted"]
    assert later[0].after == {"job_title": "Judge"}
    assert later[1].before["mobile_phone"] is None
    assert fetch_scalar(mirror.database, filled) == 0
    assert_told(mirror)
    wish(mirror)
    tick(mirror)
    assert fetch_scalar(mirror.database, filled) > 0
    assert_exact_but(mirror)
    assert read_told(mirror)[1:] == [("users", [], None)], "its columns are added again"


def test_no_request_asks_for_a_property_once_it_is_left_out(mirror: Mirror) -> None:
    wish(mirror, leave_out={"users": ["mobilePhone"], "groups": ["description"]})
    tick(mirror)
    mirror.tenant.update_user(mirror.tenant.users.id_at(1), jobTitle="x")
    tick(mirror)
    links = "select string_agg(delta_link, ' ') from sync.streams"
    assert "mobilePhone" not in str(fetch_scalar(mirror.database, links))
    due = "select count(*) from sync.streams where delta_link is not null and full_due_at < now()"
    assert fetch_scalar(mirror.database, due) == 0, "the walk that replaces the cursor is done"


def test_a_property_can_be_left_out_while_a_first_load_is_under_way(
    make_mirror: MakeMirror,
) -> None:
    mirror = make_mirror(Tenant(seed=33, users=40, groups=4))
    mirror.tenant.options.max_page_size = 10
    discover(mirror.database, mirror.runtime.nango, mirror.runtime.settings)
    while not count_rows(mirror, "users"):
        run_slice(mirror.runtime, 1, trigger=RunTrigger.BACKFILL, seconds=0)
    assert count_rows(mirror, "users") < 40
    wish(mirror, leave_out={"users": ["mobilePhone"]}, resources={"sites": False})
    tick(mirror)
    filled = "select count(mobile_phone) from directory.users"
    assert fetch_scalar(mirror.database, filled) == 0
    assert count_rows(mirror, "users") == 40
    assert_told(mirror)
    wish(mirror)
    tick(mirror)
    assert_exact_but(mirror)


def test_bad_names_are_reported_and_block_nothing_else(mirror: Mirror) -> None:
    wish(
        mirror,
        resources={"sitez": False, "sites": False, "groups": "no"},
        leave_out={"users": ["mobilePhone", "id", 7], "nothing": [], "groups": "description"},
        delta_seconds=77,
    )
    problem = fetch_scalar(mirror.database, "select settings_problem from sync.connections")
    assert "resources names 'sitez'; the resources are users, groups," in problem
    assert "resources.groups must be true or false" in problem
    assert "leave_out names 'nothing'" in problem
    assert "leave_out.users names 'id', '7', which cannot be left out (" in problem
    assert "leave_out.groups must be a list" in problem
    tick(mirror)
    assert count_rows(mirror, "sites") == 0
    assert fetch_scalar(mirror.database, "select count(mobile_phone) from directory.users") == 0
    assert_told(mirror)


@pytest.mark.parametrize("point", ["switched", "switched:2", "cleared-batch", "cleared-batch:3"])
def test_killed_anywhere_the_next_slice_continues(
    mirror: Mirror, settings: Settings, point: str
) -> None:
    wish(mirror, resources={"groups": False}, leave_out={"users": ["mobilePhone"]})
    command = [sys.executable, "-c", "from worker.ops.cli import main; main()"]
    done = subprocess.run(
        [*command, "sync", "1"],
        check=False,
        env={**os.environ, **name_servers(settings), "TENANT_MIRROR_CRASH_AT": point},
        capture_output=True,
        timeout=60,
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert verify_connection(mirror.database).problems == []
    fold = consume(mirror)
    assert (fold.errors, fold.gaps) == ([], {})
    execute(mirror, "update sync.leases set expires_at = now()")
    mirror.sync()
    assert sorted(read_told(mirror)) == [
        ("group_members", [], "off"),
        ("group_owners", [], "off"),
        ("groups", [], "off"),
        ("users", ["mobile_phone"], None),
    ]
    assert count_rows(mirror, "groups") == count_rows(mirror, "group_members") == 0
    assert fetch_scalar(mirror.database, "select count(mobile_phone) from directory.users") == 0
    assert_told(mirror)


def test_large_tables_are_cleared_over_several_slices_while_deltas_go_on(
    mirror: Mirror, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clear, "CLEAR_BATCH", 5)
    clear._render_removal.cache_clear()
    wish(mirror, resources={"users": False})
    states: list[RunState] = []
    while not states or states[-1] is RunState.RUNNING:
        states.append(run_slice(mirror.runtime, 1, trigger=RunTrigger.SCHEDULED, seconds=0).state)
    clear._render_removal.cache_clear()
    assert len(states) > 4
    assert_exact_but(mirror, "users")


def test_a_release_that_knows_no_switches_leaves_it_alone_and_what_it_read_is_removed(
    mirror: Mirror,
) -> None:
    wish(mirror, resources={"sites": False})
    tick(mirror)
    state = "select phase, due_at > now() + interval '20 days' from sync.streams"
    with mirror.database.open_transaction() as db:
        found = db.execute(text(f"{state} where resource = 'sites'")).one()
    assert tuple(found) == ("ready", True)
    execute(mirror, "update sync.streams set off_at = null where resource = 'sites'")
    wish(mirror)
    tick(mirror)
    execute(mirror, "update sync.streams set off_at = now() where resource = 'sites'")
    wish(mirror, resources={"sites": False})
    tick(mirror)
    assert_exact_but(mirror, "sites")


def test_what_is_off_is_shown_so_everywhere_and_is_never_late(mirror: Mirror) -> None:
    wish(mirror, resources={"sites": False, "group_members": False})
    tick(mirror)
    execute(mirror, "update sync.connections set created_at = now() - interval '90 days'")
    execute(mirror, "update sync.streams set fresh_at = now() where off_at is null")
    (one,) = load_fleet(mirror.database, mirror.runtime.settings).in_use
    assert one.conditions == ()
    assert one.facts.fresh_at is not None
    assert judge_permissions(one.facts)["Sites.Read.All"] is PermissionState.NOT_USED
    with mirror.database.open_transaction() as db:
        assert count_late_connections(db) == 0
        view = db.execute(text("select resource, phase, is_late from analytics.freshness"))
        shown = {row.resource: (row.phase, row.is_late) for row in view}
        streams = load_streams_overview(db, 1)
        whole = db.execute(text("select fresh_at from analytics.connections")).scalar()
    assert shown["sites"] == shown["group_members"] == ("off", False)
    assert shown["groups"] == ("delta", False)
    assert whole is not None
    assert {row["phase"] for row in streams if row["resource"] == "sites"} == {"off"}
    rows = list_resources(one.facts, streams, dict.fromkeys(RESOURCES, 0), datetime.now(UTC))
    off = {"sites", "group_members"} | OFF
    assert {row.name for row in rows if row.phase == "off"} == off
    url = mirror.database.url.render_as_string(hide_password=False)
    done = CliRunner().invoke(status, ["--json"], env={"DATABASE_URL": url})
    (row,) = json.loads(done.output)["connections"]
    assert {name for name, age in row["freshness"].items() if not age["is_on"]} == off
    report = mirror.sync("sites")
    assert report.state is RunState.PARTIAL
    assert report.message == "sites: it is switched off in the settings"
    assert report.resources["sites"]["phase"] == "off"


def test_a_connection_with_resources_off_is_no_first_load(mirror: Mirror) -> None:
    wish(mirror, resources={"sites": False})
    tick(mirror)

    def claim() -> list[RunTrigger]:
        execute(mirror, "update sync.connections set due_at = now()")
        with mirror.database.open_transaction() as db:
            return [q for _, q in claim_due(db, limit=9, first_loads=9, claim_seconds=0)]

    assert claim() == [RunTrigger.SCHEDULED]
    wish(mirror)
    run_slice(mirror.runtime, 1, trigger=RunTrigger.SCHEDULED, seconds=0)
    assert claim() == [RunTrigger.SCHEDULED], "nor is it while the resource is read again"


def test_a_snapshot_that_is_older_than_a_switch_begins_again_after_it(
    mirror: Mirror, environment: RelayEnvironment
) -> None:
    environment.add(start=SinkStart.SNAPSHOT)
    site = mirror.tenant.sites.id_at(1)
    mirror.tenant.update_site(site, displayName="renamed")
    tick(mirror)
    wish(mirror, resources={"sites": False})
    tick(mirror)
    wish(mirror)
    tick(mirror)
    environment.deliver()
    fold = Fold()
    fold.apply(environment.received())
    assert (fold.errors, fold.gaps) == ([], {})
    assert list(find_differences(mirror.database, fold)) == []


def test_the_documented_history_knows_an_object_before_and_after_the_switch(
    mirror: Mirror,
) -> None:
    user = mirror.tenant.users.id_at(4)
    mirror.tenant.update_user(user, jobTitle="Judge", department="Law")
    tick(mirror)
    wish(mirror, resources={"users": False})
    tick(mirror)
    mirror.tenant.update_user(user, jobTitle="Baker")
    wish(mirror)
    tick(mirror)
    document = Path(__file__).parents[2] / "docs" / "analytics.md"
    (statement,) = re.findall(
        r"^with recursive history as .*?;$", document.read_text(), re.DOTALL | re.MULTILINE
    )
    with mirror.database.open_transaction() as db:
        rows = db.exec_driver_sql(statement.replace("'...'", f"'{user}'"))
        lines = [tuple(row)[1:] for row in rows]
    assert [change for change, *_ in lines] == ["created", "updated", "created"]
    assert lines[1:] == [("updated", "Judge", "Law"), ("created", "Baker", "Law")]


def test_a_customer_who_connects_again_keeps_what_was_off(
    mirror: Mirror,
) -> None:
    wanted = {"tenant_mirror": {"resources": {"sites": False}, "leave_out": {"users": ["city"]}}}
    wish(mirror, **wanted["tenant_mirror"])
    tick(mirror)
    told = read_told(mirror)
    mirror.nango.remove_connection("contoso")
    runtime = mirror.runtime
    discover(runtime.database, runtime.nango, runtime.settings)
    mirror.nango.add_connection("again", mirror.tenant, metadata=wanted)
    discover(runtime.database, runtime.nango, runtime.settings)
    run_slice(runtime, 2, trigger=RunTrigger.BACKFILL)
    mirror.nango.calls.reset()
    tick(mirror)
    assert not mirror.nango.calls.graph[SITES]
    assert read_told(mirror) == told
    assert count_rows(mirror, "sites") == 0
    assert fetch_scalar(mirror.database, "select count(city) from directory.users") == 0
    assert verify_connection(mirror.database).problems == []
