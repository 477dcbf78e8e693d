"""Pages that are too large for a tenant's Graph: smaller ones are asked for, and remembered."""

from typing import Any

import pytest
from sqlalchemy import text

from models.run import RunState, RunTrigger
from sandbox.tenant import FaultInjector, Request, Response, Tenant
from tests.support.mirror import MakeMirror, Mirror, assert_exact, fetch_scalar
from worker.store.state.overview import load_streams_overview
from worker.sync.run import run_slice

pytestmark = pytest.mark.first_resources


def stream(mirror: Mirror, column: str, name: str = "users") -> Any:
    return fetch_scalar(
        mirror.database, f"select {column} from sync.streams where resource = '{name}'"
    )


@pytest.fixture
def tenant() -> Tenant:
    return Tenant(seed=51, users=130, groups=40, sites=4, big_groups=1, big_group_members=60)


@pytest.mark.parametrize("knob", ["time_out_above", "refuse_top_above"])
@pytest.mark.parametrize("size", [500, 40])
def test_a_listing_that_is_too_large_is_read_in_smaller_pages(
    make_mirror: MakeMirror, tenant: Tenant, knob: str, size: int
) -> None:
    setattr(tenant.options, knob, size)
    tenant.options.delta_page_size = min(size, 200)
    mirror = make_mirror(tenant)
    report = mirror.sync()
    assert report.state is RunState.SUCCEEDED, report.message
    assert 0 < stream(mirror, "page_size") <= size
    assert report.resources["users"]["page_size"] == stream(mirror, "page_size")
    assert_exact(mirror.database, tenant)
    mirror.nango.calls.reset()
    tenant.mutate(10)
    assert mirror.sync(full=True).state is RunState.SUCCEEDED
    pages = -(-tenant.truth()["users"].count // stream(mirror, "page_size"))
    assert mirror.nango.calls.graph["users"] <= pages + 1, "the size was remembered"
    assert_exact(mirror.database, tenant)


def test_groups_with_members_come_in_smaller_pages(make_mirror: MakeMirror, tenant: Tenant) -> None:
    tenant.options.time_out_above = 30
    mirror = make_mirror(tenant)
    assert mirror.sync().state is RunState.SUCCEEDED
    assert stream(mirror, "mode", "groups") == "plain"
    assert stream(mirror, "page_size", "groups") == 25
    assert_exact(mirror.database, tenant)
    tenant.mutate(20)
    assert mirror.sync().state is RunState.SUCCEEDED
    assert_exact(mirror.database, tenant)


def test_members_are_read_by_list_where_groups_with_members_are_never_answered(
    make_mirror: MakeMirror, tenant: Tenant
) -> None:
    mirror = make_mirror(tenant)
    mirror.nango.faults = FaultInjector.from_rules([("/groups/delta", "504", None)])
    report = mirror.sync()
    assert report.state is RunState.SUCCEEDED, report.message
    assert stream(mirror, "mode", "groups") == "list_only"
    assert_exact(mirror.database, tenant)
    mirror.nango.faults = None
    mirror.nango.calls.reset()
    tenant.mutate(20)
    assert mirror.sync().state is RunState.SUCCEEDED
    assert mirror.nango.calls.graph["groups/delta"] == 0, "not asked for again before a week"
    with mirror.database.open_transaction() as db:
        db.execute(text("update sync.streams set page_size_at = page_size_at - interval '8 days'"))
    assert mirror.sync().state is RunState.SUCCEEDED
    assert stream(mirror, "mode", "groups") == "plain"
    assert_exact(mirror.database, tenant)


def test_pages_of_members_become_smaller_as_well(make_mirror: MakeMirror, tenant: Tenant) -> None:
    tenant.options.no_delta, tenant.options.time_out_members_above = True, 100
    mirror = make_mirror(tenant)
    for _ in range(4):
        report = mirror.sync()
    assert report.state is RunState.SUCCEEDED, report.message
    assert stream(mirror, "page_size", "groups") <= 100
    assert_exact(mirror.database, tenant)


def test_a_page_on_the_way_that_is_never_answered_begins_the_walk_again_in_smaller_ones(
    make_mirror: MakeMirror, tenant: Tenant
) -> None:
    tenant.options.max_page_size = 50
    mirror = make_mirror(tenant)

    def is_second_page(request: Request) -> bool:
        large = "$top=999" in request.query
        return request.path.endswith("/users") and large and "skiptoken" in request.query

    mirror.nango.faults = FaultInjector.from_rules([(is_second_page, "504", None)])
    for _ in range(2):
        assert mirror.sync("users").state is RunState.PARTIAL
        assert (stream(mirror, "page_no"), stream(mirror, "page_size")) == (1, None)
    assert mirror.sync().state is RunState.SUCCEEDED
    assert stream(mirror, "page_size") == 499
    assert_exact(mirror.database, tenant)


def test_an_answer_that_does_not_come_in_time_makes_the_page_smaller(
    make_mirror: MakeMirror, tenant: Tenant
) -> None:
    """Also in the opening call, which has the page along with the organization."""
    mirror = make_mirror(tenant)
    client = mirror.runtime.nango
    client.retry_policy = type(client.retry_policy)(1.5, 0.2)

    def stall(request: Request) -> Response | None:
        large = request.path.endswith("/users") and "$top=999" in request.query
        return Response(200, b"", {}, delay=3.0) if large else None

    mirror.nango.before_graph = stall
    for _ in range(4):
        report = mirror.sync()
        if report.state is RunState.SUCCEEDED:
            break
    assert report.state is RunState.SUCCEEDED, report.message
    assert stream(mirror, "page_size") < 999
    assert_exact(mirror.database, tenant)


def test_a_graph_that_answers_nothing_in_time_makes_no_page_smaller(mirror: Mirror) -> None:
    mirror.nango.faults = FaultInjector.from_rules(
        [("/users", "504", None), ("/groups", "504", None)]
    )
    with mirror.database.open_transaction() as db:
        db.execute(text("update sync.streams set select_hash = null"))
    assert mirror.sync().state is RunState.PARTIAL
    found = "select count(*) from sync.streams where page_size is not null or mode <> 'plain'"
    assert fetch_scalar(mirror.database, found) == 0
    mirror.nango.faults = None
    assert mirror.sync().state is RunState.SUCCEEDED
    assert_exact(mirror.database, mirror.tenant)


def test_a_size_that_was_halved_grows_again_day_by_day(
    make_mirror: MakeMirror, tenant: Tenant
) -> None:
    tenant.options.time_out_above = 150
    mirror = make_mirror(tenant)
    mirror.sync()
    assert stream(mirror, "page_size") == 124
    tenant.options.time_out_above = 0
    found = []
    for _ in range(4):
        with mirror.database.open_transaction() as db:
            db.execute(
                text(
                    "update sync.streams set page_size_at = page_size_at - interval '25 hours'"
                    " where resource = 'users'"
                )
            )
        assert mirror.sync("users", full=True).state is RunState.SUCCEEDED
        found.append(stream(mirror, "page_size"))
    assert found == [248, 496, 992, None]


def test_smaller_pages_are_shown(make_mirror: MakeMirror, tenant: Tenant) -> None:
    tenant.options.refuse_top_above = 100
    mirror = make_mirror(tenant)
    mirror.sync()
    with mirror.database.open_transaction() as db:
        reasons = {one["resource"]: one["reason"] for one in load_streams_overview(db, 1)}
    assert "reads pages of 100" in reasons["users"]


def test_a_walk_in_many_slices_finds_its_size(make_mirror: MakeMirror) -> None:
    tenant = Tenant(seed=52, users=60, groups=5, sites=1)
    tenant.options.time_out_above = 130
    mirror = make_mirror(tenant)
    for _ in range(400):
        report = run_slice(mirror.runtime, 1, trigger=RunTrigger.BACKFILL, seconds=0.0)
        if report.state is not RunState.RUNNING:
            with mirror.database.open_transaction() as db:
                db.execute(text("update sync.streams set due_at = now()"))
        if report.state is RunState.SUCCEEDED:
            break
    assert report.state is RunState.SUCCEEDED, report.message
    assert_exact(mirror.database, tenant)
