"""A deletion that a read by id can't confirm waits by itself; everything else goes on."""

import json
from dataclasses import replace
from typing import Any

import pytest
from click.testing import CliRunner

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
    verify_connection,
)
from worker.ops.cli.status import status as status_command
from worker.ops.cli.verify import verify as verify_command
from worker.store.state.unresolved import MAX_UNRESOLVED
from worker.sync.run import run_slice

pytestmark = pytest.mark.first_resources

LISTS = {"users": "/users", "sites": "AllSites", "groups": "groups/delta"}
HEADERS = {"content-type": "application/json", "request-id": "simulated"}


def answer(status: int) -> Response:
    body = {"error": {"code": "simulated", "message": ""}}
    return Response(status, json.dumps(body).encode(), HEADERS)


class Unlisted:
    """Graph as it is, but some objects left their list, and by id they answer a status."""

    def __init__(self, mirror: Mirror, resource: str, statuses: dict[str, int]) -> None:
        self.mirror, self.resource, self.statuses = mirror, resource, statuses
        self.listings = 0
        self.asked = 0
        mirror.nango.before_graph = self

    def __call__(self, request: Request) -> Response | None:
        if request.path.endswith(LISTS[self.resource]) and "token" not in request.query:
            return self._without(request)
        for key, status in self.statuses.items():
            if request.path.endswith(key) and status != 200:
                self.asked += 1
                return answer(status)
        return None

    def _without(self, request: Request) -> Response:
        response = GraphService().handle(self.mirror.tenant, request)
        document = json.loads(response.body)
        self.listings += 1
        rows = [row for row in document["value"] if not row["id"].endswith(tuple(self.statuses))]
        return replace(response, body=json.dumps({**document, "value": rows}).encode())


def live(mirror: Mirror, resource: str, key: str) -> bool:
    where = "id = :id and deleted_at is null"
    found = f"select exists (select from directory.{resource} where {where})"
    return bool(fetch_scalar(mirror.database, found, id=key))


def noted(mirror: Mirror) -> list[str]:
    found = "select array_agg(kind || ' ' || key order by key) from sync.unresolved"
    return fetch_scalar(mirror.database, found) or []


def tick(mirror: Mirror) -> RunState:
    """A run by the clock, with every stream due; parts set apart have clocks of their own."""
    with mirror.database.open_transaction() as db:
        db.exec_driver_sql("update sync.streams set due_at = null")
    return run_slice(mirror.runtime, 1, trigger=RunTrigger.SCHEDULED).state


def pauses_pass(mirror: Mirror) -> None:
    with mirror.database.open_transaction() as db:
        db.exec_driver_sql("update sync.unresolved set retry_at = now()")


def site_ids(tenant: Tenant) -> list[str]:
    return [row["id"].rpartition(",")[2] for row in tenant.iterate_live("sites")]


# ---- one object, any refusal


@pytest.mark.parametrize("status", [400, 403, 423, 429, 500])
def test_a_site_that_cannot_be_confirmed_waits_and_the_others_go_on(
    mirror: Mirror, status: int
) -> None:
    tenant = mirror.tenant
    silent, gone, *_ = site_ids(tenant)
    tenant.delete_site(gone)
    came = tenant.create_site(displayName="New")
    Unlisted(mirror, "sites", {silent: status})
    report = mirror.sync("sites")
    assert report.state is RunState.PARTIAL
    assert f"site {silent}: Graph answer" in (report.message or "")
    assert str(status) in (report.message or "")
    assert [live(mirror, "sites", key) for key in (silent, gone)] == [True, False]
    assert live(mirror, "sites", came.rpartition(",")[2])
    assert fetch_scalar(
        mirror.database, "select phase from sync.streams where resource = 'sites'"
    ) == ("ready")
    assert verify_connection(mirror.database).problems == []
    mirror.nango.before_graph = None
    assert mirror.sync().state is RunState.SUCCEEDED
    assert noted(mirror) == []
    assert_exact(mirror.database, tenant)


@pytest.mark.parametrize("status", [403, 500])
def test_a_user_that_cannot_be_confirmed_does_not_stop_the_deltas(
    mirror: Mirror, status: int
) -> None:
    tenant = mirror.tenant
    silent, gone, other = (tenant.users.id_at(index) for index in (3, 4, 5))
    tenant.delete_user(gone, permanently=True)
    tenant.expire_delta_tokens()
    Unlisted(mirror, "users", {silent: status})
    assert mirror.sync("users").state is RunState.PARTIAL
    assert [live(mirror, "users", key) for key in (silent, gone)] == [True, False]
    tenant.update_user(other, jobTitle="Elsewhere")
    assert tick(mirror) is RunState.PARTIAL, "it is still not known"
    title = "select job_title from directory.users where id = :id"
    assert fetch_scalar(mirror.database, title, id=other) == "Elsewhere"
    assert mirror.sync(full=True).state is RunState.PARTIAL
    assert live(mirror, "users", silent)
    mirror.nango.before_graph = None
    assert mirror.sync().state is RunState.SUCCEEDED
    assert_exact(mirror.database, tenant)


@pytest.mark.parametrize("status", [404, 410])
def test_an_object_that_is_gone_by_id_is_deleted(mirror: Mirror, status: int) -> None:
    gone = site_ids(mirror.tenant)[0]
    Unlisted(mirror, "sites", {gone: status})
    assert mirror.sync("sites").state is RunState.SUCCEEDED
    assert not live(mirror, "sites", gone)


@pytest.mark.parametrize("resource", ["users", "sites"])
def test_what_waited_is_deleted_once_its_id_says_that_it_is_gone(
    mirror: Mirror, resource: str
) -> None:
    tenant = mirror.tenant
    keys = site_ids(tenant) if resource == "sites" else [tenant.users.id_at(i) for i in range(9)]
    unlisted = Unlisted(mirror, resource, {keys[0]: 500, keys[1]: 403, keys[2]: 403})
    tenant.expire_delta_tokens()
    assert mirror.sync(resource).state is RunState.PARTIAL
    assert len(noted(mirror)) == 3
    mark = read_last_seq(mirror.database)
    unlisted.statuses |= {keys[0]: 404, keys[1]: 410}
    assert mirror.sync(resource).state is RunState.PARTIAL
    told = [(e["object_id"], e["change"]) for e in read_events(mirror.database, after=mark)]
    assert sorted(one for one in told if "/" not in one[0]) == sorted(
        (key, "deleted") for key in keys[:2]
    )
    assert noted(mirror) == [f"object {keys[2]}"]
    assert verify_connection(mirror.database).problems == []


def test_what_waits_is_asked_for_again_after_growing_pauses(mirror: Mirror) -> None:
    silent = site_ids(mirror.tenant)[0]
    unlisted = Unlisted(mirror, "sites", {silent: 403})
    pause = "select extract(epoch from retry_at - now()) / 60 from sync.unresolved"
    assert tick(mirror) is RunState.PARTIAL
    asked, found = unlisted.asked, []
    for _ in range(3):
        found.append(round(float(fetch_scalar(mirror.database, pause))))
        assert tick(mirror) is RunState.PARTIAL
        assert unlisted.asked == asked, "it is not due yet, and no walk asks again"
        pauses_pass(mirror)
        assert tick(mirror) is RunState.PARTIAL
        asked += 1
        assert unlisted.asked == asked
    assert found == [1, 2, 4]


def test_an_object_that_comes_back_to_its_list_waits_no_longer(mirror: Mirror) -> None:
    silent = site_ids(mirror.tenant)[0]
    unlisted = Unlisted(mirror, "sites", {silent: 403})
    assert tick(mirror) is RunState.PARTIAL
    asked = unlisted.asked
    mirror.nango.before_graph = None
    assert tick(mirror) is RunState.SUCCEEDED
    assert (noted(mirror), unlisted.asked) == ([], asked)


# ---- what exists, though no list shows it


def test_an_object_that_lists_never_show_freezes_nothing(mirror: Mirror) -> None:
    tenant = mirror.tenant
    hidden, gone, other = (tenant.users.id_at(index) for index in (3, 4, 5))
    unlisted = Unlisted(mirror, "users", {hidden: 200})
    tenant.delete_user(gone, permanently=True)
    tenant.expire_delta_tokens()
    report = mirror.sync("users")
    assert report.state is RunState.PARTIAL
    assert "missed" in (report.message or "")
    assert unlisted.listings > 1, "the walk was begun again before that was believed"
    assert [live(mirror, "users", key) for key in (hidden, gone)] == [True, False]
    tenant.update_user(hidden, jobTitle="Unlisted")
    tenant.update_user(other, jobTitle="Elsewhere")
    assert tick(mirror) is RunState.PARTIAL
    assert_exact(mirror.database, tenant)
    unlisted.listings = 0
    assert mirror.sync("users", full=True).state is RunState.PARTIAL
    assert unlisted.listings == 1, "it is known by now"
    mirror.nango.before_graph = None
    assert mirror.sync("users", full=True).state is RunState.SUCCEEDED
    assert_exact(mirror.database, tenant)


def test_a_group_that_lists_do_not_show_keeps_its_members(mirror: Mirror) -> None:
    tenant = mirror.tenant
    row = next(
        row for row in tenant.iterate_live("groups") if len(tenant.members_of(row["id"])) > 2
    )
    tenant.expire_delta_tokens()
    Unlisted(mirror, "groups", {row["id"]: 403})
    assert mirror.sync("groups", full=True).state is RunState.PARTIAL
    assert noted(mirror) == [f"object {row['id']}"]
    mirror.nango.before_graph = None
    assert mirror.sync().state is RunState.SUCCEEDED
    assert_exact(mirror.database, tenant)


# ---- where all is refused, or too much


def test_every_candidate_may_be_refused(mirror: Mirror) -> None:
    tenant = mirror.tenant
    silent = site_ids(tenant)[:3]
    Unlisted(mirror, "sites", dict.fromkeys(silent, 403))
    assert mirror.sync("sites").state is RunState.PARTIAL
    assert noted(mirror) == [f"object {key}" for key in sorted(silent)]
    came = tenant.create_site(displayName="New")
    assert mirror.sync("sites").state is RunState.PARTIAL
    assert live(mirror, "sites", came.rpartition(",")[2])


def test_a_sample_without_answers_deletes_nothing_and_ends_the_walk(
    make_mirror: MakeMirror,
) -> None:
    tenant = Tenant(seed=71, users=1400, groups=2, sites=2)
    mirror = make_mirror(tenant)
    mirror.sync()
    missing = [tenant.users.id_at(index) for index in range(250)]
    unlisted = Unlisted(mirror, "users", dict.fromkeys(missing, 403))
    tenant.expire_delta_tokens()
    mark = read_last_seq(mirror.database)
    report = mirror.sync("users")
    assert report.state is RunState.PARTIAL
    assert "could not be confirmed" in (report.message or "")
    assert read_events(mirror.database, after=mark) == []
    assert fetch_scalar(
        mirror.database, "select phase from sync.streams where resource = 'users'"
    ) == ("delta")
    unlisted.statuses = dict.fromkeys(missing, 404)
    assert mirror.sync("users", full=True).state is RunState.SUCCEEDED
    assert fetch_scalar(mirror.database, "select count(*) from sync.unresolved") == 0
    gone = "select count(*) from directory.users where deleted_at is not null"
    assert fetch_scalar(mirror.database, gone) == 250


def test_more_parts_than_can_be_noted_wait_as_a_whole(mirror: Mirror) -> None:
    with mirror.database.open_transaction() as connection:
        connection.exec_driver_sql(
            "insert into sync.unresolved (connection_id, resource, kind, key, reason, retry_at)"
            " select 1, 'users', 'object', gen_random_uuid(), 'x', now() + interval '1 day'"
            f"   from generate_series(1, {MAX_UNRESOLVED})"
        )
    mark = read_last_seq(mirror.database)
    Unlisted(mirror, "sites", {site_ids(mirror.tenant)[0]: 403})
    with mirror.database.open_transaction() as db:
        db.exec_driver_sql("update sync.streams set due_at = null where resource = 'sites'")
    report = run_slice(mirror.runtime, 1, trigger=RunTrigger.SCHEDULED)
    assert report.state is RunState.PARTIAL
    assert f"more than {MAX_UNRESOLVED} parts" in (report.message or "")
    assert read_events(mirror.database, after=mark) == []


# ---- what operators see


def test_commands_name_what_is_set_apart(mirror: Mirror, database_url: str) -> None:
    silent = site_ids(mirror.tenant)[0]
    Unlisted(mirror, "sites", {silent: 403})
    assert mirror.sync().state is RunState.PARTIAL
    environment = {"DATABASE_URL": database_url}

    def run(command: Any, *arguments: str) -> str:
        done = CliRunner().invoke(command, arguments, env=environment, catch_exceptions=False)
        assert done.exit_code == 0
        return done.output

    told = f"1 part is unresolved, kept as stored and requested again (site {silent}: Graph answers"
    (row,) = json.loads(run(status_command, "--json"))["connections"]
    (matter,) = row["attention"]
    assert "1 part that Graph does not answer for" in matter
    assert matter in run(status_command)
    assert told in run(status_command, "1")
    assert told in run(verify_command, "1")
    assert json.loads(run(verify_command, "1", "--json"))["unresolved"].keys() == {"sites"}
