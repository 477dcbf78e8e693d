"""A tenant that is new: everything arrives, once, and nothing else."""

from dataclasses import replace
from math import ceil

from msgspec import structs
from sqlalchemy import text

from models.resource import Resource
from models.resources import RESOURCES, STREAMED
from models.run import RunState, RunTrigger
from sandbox.tenant import KindCounts, Tenant
from sandbox.tenant.graph.service import to_path_template
from tests.support.mirror import (
    OFF,
    MakeMirror,
    MakeSynced,
    Mirror,
    assert_exact,
    compute_mirror_truth,
    fetch_scalar,
    read_events,
    read_last_seq,
    read_row_versions,
)
from worker.sync.run import run_slice


def test_a_first_load_mirrors_every_resource_exactly(mirror: Mirror) -> None:
    assert_exact(mirror.database, mirror.tenant)


def test_every_object_of_a_first_load_is_created_once_and_marked_initial(mirror: Mirror) -> None:
    told = read_events(mirror.database)
    rows = sum(truth.count for truth in compute_mirror_truth(mirror.database).values())
    assert len(told) == rows
    assert {event["change"] for event in told} == {"created"}
    assert all(event["initial"] for event in told)
    assert len({event["object_id"] for event in told if event["resource"] == "users"}) == 60


def test_the_sequence_has_no_gap_and_time_never_runs_against_it(mirror: Mirror) -> None:
    with mirror.database.open_transaction() as db:
        rows = db.execute(
            text("select seq, occurred_at from events.change_events order by seq")
        ).all()
    assert [row.seq for row in rows] == list(range(1, len(rows) + 1))
    assert [row.occurred_at for row in rows] == sorted(row.occurred_at for row in rows)
    assert read_last_seq(mirror.database) == len(rows)


def test_a_created_event_carries_the_whole_object_under_column_names(mirror: Mirror) -> None:
    event = next(e for e in read_events(mirror.database) if e["resource"] == "users")
    with mirror.database.open_transaction() as db:
        row = db.execute(
            text("select to_jsonb(u) as u from directory.users u where id = cast(:id as uuid)"),
            {"id": event["object_id"]},
        ).scalar_one()
    for name in ("id", "display_name", "account_enabled", "proxy_addresses", "assigned_licenses"):
        assert event["after"][name] == row[name]
    assert event["before"] is None


def test_a_sync_with_nothing_changed_writes_no_row_and_no_event(mirror: Mirror) -> None:
    before = read_row_versions(mirror.database)
    report = mirror.sync()
    assert report.state is RunState.SUCCEEDED
    assert read_row_versions(mirror.database) == before


def test_a_full_walk_with_nothing_changed_writes_no_row_and_no_event(mirror: Mirror) -> None:
    before = read_row_versions(mirror.database)
    assert mirror.sync(full=True).state is RunState.SUCCEEDED
    assert read_row_versions(mirror.database) == before


def test_a_first_load_that_is_begun_again_writes_nothing_twice(mirror: Mirror) -> None:
    again = (
        "update sync.streams set phase = 'ready', first_complete_at = null, delta_link = null"
        " where resource in ('users', 'role_assignments', 'role_definitions')"
    )
    with mirror.database.open_transaction() as db:
        db.execute(text(again))
    before = read_row_versions(mirror.database)
    assert mirror.sync("users", "role_assignments").state is RunState.SUCCEEDED
    assert fetch_scalar(mirror.database, "select count(*) from sync.streams where walk_id > 1") >= 2
    assert read_row_versions(mirror.database) == before


def test_rows_are_read_again_only_where_other_bytes_come(mirror: Mirror) -> None:
    """A walk trusts equal bytes: what was spoilt here by hand stays until Graph says it anew."""
    spoilt, sent = (mirror.tenant.users.id_at(index) for index in (3, 4))
    spoil = "update directory.users set job_title = 'Spoilt' where id in (:a, :b)"
    with mirror.database.open_transaction() as db:
        db.execute(text(spoil), {"a": spoilt, "b": sent})
    mirror.tenant.update_user(sent, jobTitle="Clerk")
    mirror.sync("users", full=True)
    title = "select job_title from directory.users where id = :id"
    assert fetch_scalar(mirror.database, title, id=spoilt) == "Spoilt"
    assert fetch_scalar(mirror.database, title, id=sent) == "Clerk"


def test_a_row_that_a_round_has_changed_is_read_in_the_next_walk_and_then_known(
    mirror: Mirror,
) -> None:
    user = mirror.tenant.users.id_at(5)
    unknown = "select count(*) from directory.users where source_hash is null"
    assert fetch_scalar(mirror.database, unknown) == 0
    mirror.tenant.update_user(user, jobTitle="Clerk")
    mirror.sync("users")
    assert fetch_scalar(mirror.database, unknown) == 1
    mark = read_last_seq(mirror.database)
    mirror.sync("users", full=True)
    assert fetch_scalar(mirror.database, unknown) == 0
    assert read_last_seq(mirror.database) == mark
    before = read_row_versions(mirror.database)
    mirror.sync("users", full=True)
    assert read_row_versions(mirror.database) == before


def test_a_quiet_tenant_costs_one_call(mirror: Mirror) -> None:
    mirror.sync()
    mirror.take_call_count()
    mirror.sync("users", "groups")
    assert mirror.take_call_count() == 1


def test_a_quiet_tick_that_reads_every_resource_costs_one_call(make_synced: MakeSynced) -> None:
    mirror = make_synced(seed=3, users=60, groups=8, sites=6, kinds=KindCounts.for_users(60))
    for _ in range(2):
        with mirror.database.open_transaction() as db:
            db.execute(text("update sync.streams set due_at = now()"))
        mirror.nango.calls.reset()
        assert (
            run_slice(mirror.runtime, 1, trigger=RunTrigger.SCHEDULED).state is RunState.SUCCEEDED
        )
    read = "select count(*) from sync.streams where due_at > now() and phase <> 'refused'"
    read_ones = [one for one in STREAMED if one.name not in OFF]
    assert fetch_scalar(mirror.database, f"{read} and off_at is null") == len(read_ones)
    asked = dict.fromkeys(map(find_first_path, read_ones), 1)
    assert mirror.nango.calls.graph == {"$batch": 1, "organization": 1, **asked}
    assert mirror.take_call_count() == 1


def test_the_first_load_of_each_resource_costs_what_the_documentation_says(
    make_mirror: MakeMirror,
) -> None:
    """Of one page, in a tenant with something of every kind."""
    kinds = KindCounts.for_users(20)
    mirror = make_mirror(Tenant(seed=5, users=20, groups=3, sites=4, kinds=kinds))
    on = structs.replace(mirror.runtime.settings, resources_on=tuple(RESOURCES))
    mirror.runtime = replace(mirror.runtime, settings=on)
    costs = {}
    for resource in STREAMED:
        mirror.take_call_count()
        assert mirror.sync(resource.name).state is RunState.SUCCEEDED
        costs[resource.name] = mirror.take_call_count()
    lists = ceil((kinds.service_principals - 1) / 19)
    assert costs == {
        one.name: 1 + 2 * one.source.takes_token + (lists if one.source.below else 0)
        for one in STREAMED
    }


def find_first_path(resource: Resource) -> str:
    """Where a tick asks for it, as the simulated tenant counts it."""
    return to_path_template((resource.source.delta_path or resource.source.path).strip("/"))


def test_users_cost_a_call_a_page_and_two_more(make_mirror: MakeMirror) -> None:
    mirror = make_mirror(Tenant(seed=5, users=2500, groups=1))
    mirror.sync("users")
    assert mirror.take_call_count() == 3 + 2
    assert fetch_scalar(mirror.database, "select count(*) from directory.users") == 2500


def test_an_empty_tenant_is_mirrored_as_empty(make_mirror: MakeMirror) -> None:
    mirror = make_mirror(Tenant(seed=5, users=1, groups=0, sites=0, role_assignments=0))
    assert mirror.sync().state is RunState.SUCCEEDED
    assert_exact(mirror.database, mirror.tenant)


def test_odd_pages_are_read_to_the_end(make_mirror: MakeMirror) -> None:
    tenant = Tenant(seed=9, users=700, groups=40, big_groups=1, big_group_members=500)
    tenant.options.empty_page_every = 2
    tenant.options.repeat_every = 3
    tenant.options.members_per_entry = 50
    tenant.options.delta_page_size = 20
    tenant.options.initial_tombstones = True
    mirror = make_mirror(tenant)
    assert mirror.sync().state is RunState.SUCCEEDED
    assert_exact(mirror.database, tenant)


def test_the_tenant_is_learnt_from_the_organization(mirror: Mirror) -> None:
    found = fetch_scalar(mirror.database, "select tenant_id from sync.connections")
    assert found == mirror.tenant.tenant_id
