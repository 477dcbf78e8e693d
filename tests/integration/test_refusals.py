"""Refusals that pass and refusals that last: nothing is given up early, and no cursor is lost."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from models.run import RunState, RunTrigger
from sandbox.tenant import FaultInjector, Request, Response, Tenant
from tests.support.mirror import MakeMirror, Mirror, assert_exact, fetch_scalar
from worker.sync.run import run_slice

pytestmark = pytest.mark.first_resources

PASSING = ["408", "409", "421", "423", "425", "449", "500", "507"]
LISTS = {"users": "/users?", "groups": "/groups/delta?", "sites": "/sites/getAllSites"}
GRAPH = {"content-type": "application/json", "request-id": "x"}


def stream(mirror: Mirror, column: str, name: str = "users") -> Any:
    return fetch_scalar(
        mirror.database, f"select {column} from sync.streams where resource = '{name}'"
    )


def answer(status: int, code: str = "BadRequest") -> Response:
    body = {"error": {"code": code, "message": "no", "innerError": {"request-id": "x"}}}
    return Response(status, json.dumps(body).encode(), GRAPH)


def is_round(request: Request) -> bool:
    """A request along a delta cursor, and none for a token that starts now."""
    is_cursor = "deltatoken=" in request.query.lower() and "latest" not in request.query
    return "/delta" in request.path and (is_cursor or "skiptoken=" in request.query.lower())


@pytest.mark.parametrize("kind", PASSING)
def test_a_status_that_passes_costs_a_round_nothing(mirror: Mirror, kind: str) -> None:
    mark = stream(mirror, "first_complete_at")
    mirror.tenant.mutate(10)
    mirror.nango.faults = FaultInjector.from_rules([(is_round, kind, 2)])
    report = mirror.sync()
    mirror.nango.faults = None
    assert report.state is RunState.SUCCEEDED, report.message
    assert mirror.nango.calls.graph["users"] == 0, "no list was read"
    assert stream(mirror, "first_complete_at") == mark
    assert_exact(mirror.database, mirror.tenant)


@pytest.mark.parametrize(
    ("kind", "name"), list(zip(PASSING, ["users", "groups", "sites"] * 3, strict=False))
)
def test_a_status_that_passes_is_no_refusal_of_a_first_load(
    make_mirror: MakeMirror, kind: str, name: str
) -> None:
    mirror = make_mirror(Tenant(seed=5, users=40, groups=6, sites=5))
    mirror.nango.faults = FaultInjector.from_rules([(LISTS[name], kind, 1)])
    report = mirror.sync()
    assert report.state is RunState.SUCCEEDED, report.message
    assert stream(mirror, "mode", name) == "plain"
    mirror.nango.faults = None
    assert_exact(mirror.database, mirror.tenant)


@pytest.mark.parametrize("kind", ["408", "409", "423", "449"])
def test_a_status_that_lasts_a_while_leaves_the_cursor(mirror: Mirror, kind: str) -> None:
    cursors = [stream(mirror, "delta_link", name) for name in ("users", "groups")]
    mirror.tenant.mutate(10)
    mirror.nango.faults = FaultInjector.from_rules([(is_round, kind, None)])
    assert mirror.sync().state is RunState.PARTIAL
    assert [stream(mirror, "phase", name) for name in ("users", "groups")] == ["delta"] * 2
    assert [stream(mirror, "delta_link", name) for name in ("users", "groups")] == cursors
    assert stream(mirror, "due_at < now() + interval '2 minutes'"), "it is asked again soon"
    mirror.nango.faults = None
    assert mirror.sync().state is RunState.SUCCEEDED
    assert mirror.nango.calls.graph["users"] == 0
    assert_exact(mirror.database, mirror.tenant)


FIRST_LOAD: list[str | Callable[[Request], bool]] = [
    "/users?",
    "$deltatoken=latest",
    "/groups/delta",
    "getAllSites",
    "roleDefinitions",
    "roleAssignments",
]


@pytest.mark.parametrize("matches", FIRST_LOAD)
def test_one_403_amid_answers_is_asked_again(
    make_mirror: MakeMirror, matches: str | Callable[[Request], bool]
) -> None:
    mirror = make_mirror(Tenant(seed=5, users=40, groups=6, sites=5))
    mirror.nango.faults = FaultInjector.from_rules([(matches, "graph-403", 1)])
    report = mirror.sync()
    assert report.state is RunState.SUCCEEDED, report.message
    assert mirror.nango.faults.total == 1
    mirror.nango.faults = None
    assert (
        fetch_scalar(mirror.database, "select count(*) from sync.streams where mode <> 'plain'")
        == 0
    )
    assert_exact(mirror.database, mirror.tenant)


@pytest.mark.parametrize(
    ("status", "name"),
    [
        (400, "groups"),
        (402, "users"),
        (403, "users"),
        (403, "groups"),
        (404, "users"),
        (501, "users"),
    ],
)
def test_a_cursor_that_is_refused_is_gone_on_from_once_it_is_allowed(
    mirror: Mirror, name: str, status: int
) -> None:
    cursor, walk = stream(mirror, "delta_link", name), stream(mirror, "full_walk_at", name)
    mirror.tenant.mutate(20)

    def refuse(request: Request) -> Response | None:
        return answer(status) if is_round(request) and f"/{name}/" in request.path else None

    mirror.nango.before_graph = refuse
    assert mirror.sync().state is RunState.PARTIAL
    assert stream(mirror, "phase", name) == "refused"
    assert stream(mirror, "delta_link", name) == cursor
    assert str(status) in stream(mirror, "reason", name)
    mirror.nango.before_graph = None
    mirror.tenant.mutate(20)
    assert mirror.sync().state is RunState.SUCCEEDED
    assert stream(mirror, "phase", name) == "delta"
    assert stream(mirror, "full_walk_at", name) == walk, "nothing was listed"
    assert_exact(mirror.database, mirror.tenant)


def test_a_cursor_that_was_lost_while_it_was_refused_leads_to_a_walk(mirror: Mirror) -> None:
    mirror.tenant.mutate(20)
    mirror.tenant.options.refused_resources = {"users"}
    assert mirror.sync().state is RunState.PARTIAL
    mirror.tenant.options.refused_resources = set()
    mirror.tenant.expire_delta_tokens()
    assert mirror.sync().state is RunState.SUCCEEDED
    assert mirror.nango.calls.graph["users"] == 1
    assert_exact(mirror.database, mirror.tenant)


def test_a_refused_stream_asks_once_an_hour_and_no_more(mirror: Mirror) -> None:
    mirror.tenant.options.refused_resources = {"users"}
    mirror.sync("users")
    first = mirror.nango.calls.graph["users/delta"]
    mirror.sync("users")
    assert mirror.nango.calls.graph["users/delta"] - first == 1
    hour = "due_at between now() + interval '55 minutes' and now() + interval '65 minutes'"
    assert stream(mirror, hour) is True


def refuse_cursors_of_now(mirror: Mirror) -> None:
    """Graph answers 400 to the cursors of users and groups, and gives other ones."""
    dead = [stream(mirror, "delta_link", name).rpartition("=")[2] for name in ("users", "groups")]
    mirror.nango.before_graph = lambda request: (
        answer(400) if any(one in request.query for one in dead) else None
    )


def test_a_link_that_is_refused_twice_although_delta_is_offered_leads_to_a_walk(
    mirror: Mirror,
) -> None:
    """Graph has no word for it, but a list is all that is left."""
    refuse_cursors_of_now(mirror)
    mirror.tenant.mutate(30)
    assert mirror.sync().state is RunState.PARTIAL
    assert mirror.nango.calls.graph["users"] == 0
    assert mirror.sync().state is RunState.SUCCEEDED
    assert mirror.nango.calls.graph["users"] == 1
    mirror.tenant.mutate(20)
    assert mirror.sync().state is RunState.SUCCEEDED
    assert_exact(mirror.database, mirror.tenant)


def test_cursors_that_are_refused_for_ever_lead_to_one_walk_an_hour_at_most(
    mirror: Mirror,
) -> None:
    """Graph gives the same token again, as nothing has changed, and refuses it again."""
    refuse_cursors_of_now(mirror)
    for _ in range(2):
        assert mirror.sync().state is RunState.PARTIAL
    assert mirror.nango.calls.graph["users"] == 1
    assert stream(mirror, "phase") == "refused"


@pytest.mark.parametrize(("status", "name"), [(403, "users"), (403, "groups"), (423, "users")])
def test_a_listing_that_is_refused_on_its_way_goes_on_from_there(
    make_mirror: MakeMirror, name: str, status: int
) -> None:
    tenant = Tenant(seed=36, users=30, groups=30)
    tenant.options.max_page_size = tenant.options.delta_page_size = 5
    mirror = make_mirror(tenant)

    def refuse(request: Request) -> Response | None:
        pages = "skiptoken" in request.query and request.path.endswith(LISTS[name].strip("?"))
        return answer(status) if pages and stream(mirror, "page_no", name) >= 3 else None

    mirror.nango.before_graph = refuse
    assert mirror.sync().state is RunState.PARTIAL
    assert stream(mirror, "page_no", name) >= 3
    mirror.nango.before_graph = None
    assert mirror.sync().state is RunState.SUCCEEDED
    assert stream(mirror, "restarts", name) == 0
    assert_exact(mirror.database, tenant)
    events = "select count(*) from events.change_events where change = 'created'"
    assert fetch_scalar(mirror.database, f"{events} and resource = '{name}'") == 30


def test_a_tenant_without_delta_for_a_while_goes_on_from_its_cursor(mirror: Mirror) -> None:
    cursor, tenant = stream(mirror, "delta_link"), mirror.tenant
    tenant.options.no_delta = True
    tenant.mutate(20)
    assert mirror.sync().state is RunState.SUCCEEDED
    assert_exact(mirror.database, tenant)
    assert (stream(mirror, "mode"), stream(mirror, "phase")) == ("list_only", "ready")
    assert stream(mirror, "delta_link") == cursor
    tenant.mutate(20)
    assert mirror.sync().state is RunState.SUCCEEDED
    tenant.options.no_delta = False
    tenant.mutate(20)
    tenant.delete_user(tenant.users.id_at(5))
    mirror.nango.calls.reset()
    assert mirror.sync().state is RunState.SUCCEEDED
    assert mirror.nango.calls.graph["users"] == 0, "the changes since then, and no list"
    assert (stream(mirror, "mode"), stream(mirror, "phase")) == ("plain", "delta")
    assert_exact(mirror.database, tenant)


def test_a_refusal_at_the_end_of_a_slice_is_neither_final_nor_asked_without_pause(
    mirror: Mirror,
) -> None:
    mirror.tenant.options.refused_resources = {"users"}
    with mirror.database.open_transaction() as db:
        db.exec_driver_sql("update sync.streams set due_at = now()")
    report = run_slice(mirror.runtime, 1, trigger=RunTrigger.SCHEDULED, seconds=0.0)
    while report.state is RunState.RUNNING:
        report = run_slice(mirror.runtime, 1, trigger=RunTrigger.SCHEDULED, seconds=0.0)
    assert stream(mirror, "phase") == "delta"
    assert stream(mirror, "due_at > now() + interval '30 seconds'") is True
    assert mirror.nango.calls.graph["users/delta"] == 1
