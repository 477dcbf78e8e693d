"""Nothing is deleted on weak evidence."""

import json

import pytest

from models.run import RunState, RunTrigger
from sandbox.tenant import Request, Response, Tenant
from tests.support.mirror import (
    MakeMirror,
    Mirror,
    assert_exact,
    compute_mirror_truth,
    fetch_scalar,
    read_events,
    read_last_seq,
)
from worker.sync.finish.approve import approve_held, reject_held
from worker.sync.plan import SyncRequest
from worker.sync.run import run_slice

pytestmark = pytest.mark.first_resources


def users_page(body: dict[str, object]) -> Response:
    headers = {"content-type": "application/json", "request-id": "simulated"}
    return Response(200, json.dumps(body).encode(), headers)


def is_listing(request: Request) -> bool:
    return request.path.endswith("/users") and "top=999" in request.query


def test_a_walk_that_misses_objects_deletes_nothing_and_is_begun_again(mirror: Mirror) -> None:
    mark = read_last_seq(mirror.database)
    lied = 0

    def lie(request: Request) -> Response | None:
        nonlocal lied
        if is_listing(request) and lied < 2:
            lied += 1
            some = list(mirror.tenant.iterate_live("users"))[:55]
            return users_page({"value": some})
        return None

    mirror.nango.before_graph = lie
    report = mirror.sync("users", full=True)
    assert lied == 2
    assert report.state is RunState.SUCCEEDED
    assert read_events(mirror.database, after=mark) == []
    assert_exact(mirror.database, mirror.tenant)


def test_a_walk_that_goes_on_lying_gives_up_and_deletes_nothing(mirror: Mirror) -> None:
    some = list(mirror.tenant.iterate_live("users"))[:55]
    mirror.nango.before_graph = lambda r: users_page({"value": some}) if is_listing(r) else None
    report = mirror.sync("users", full=True)
    assert report.state is RunState.PARTIAL
    assert "missed" in (report.message or "")
    mirror.nango.before_graph = None
    assert_exact(mirror.database, mirror.tenant)


def test_an_empty_answer_never_empties_a_table(mirror: Mirror) -> None:
    mirror.nango.before_graph = lambda r: users_page({"value": []}) if is_listing(r) else None
    report = mirror.sync("users", full=True)
    assert report.state is RunState.HELD
    assert compute_mirror_truth(mirror.database)["users"].count == 60
    assert "approval" in report.resources["users"]["problem"]


def many_deleted(make: MakeMirror) -> Mirror:
    mirror = make(Tenant(seed=4, users=200, groups=4))
    mirror.sync()
    for index in range(70):
        mirror.tenant.delete_user(mirror.tenant.users.id_at(index))
    return mirror


def test_an_implausible_deletion_is_held_until_approved(make_mirror: MakeMirror) -> None:
    mirror = many_deleted(make_mirror)
    assert mirror.sync().state is RunState.HELD
    assert compute_mirror_truth(mirror.database)["users"].count == 200
    kept = mirror.tenant.users.id_at(150)
    mirror.tenant.update_user(kept, jobTitle="Still Syncing")
    assert mirror.sync().state is RunState.HELD
    title = "select job_title from directory.users where id = :id"
    assert fetch_scalar(mirror.database, title, id=kept) == "Still Syncing"
    approve_held(mirror.database, mirror.connection_id)
    assert mirror.sync().state is RunState.SUCCEEDED
    assert_exact(mirror.database, mirror.tenant)


def test_a_held_deletion_dissolves_when_the_objects_come_back(make_mirror: MakeMirror) -> None:
    mirror = many_deleted(make_mirror)
    assert mirror.sync().state is RunState.HELD
    mark = read_last_seq(mirror.database)
    for index in range(70):
        mirror.tenant.restore_user(mirror.tenant.users.id_at(index))
    mirror.sync()
    assert mirror.sync().state is RunState.SUCCEEDED
    assert [e for e in read_events(mirror.database, after=mark) if e["resource"] == "users"] == []
    assert_exact(mirror.database, mirror.tenant)


def test_a_rejected_deletion_leads_to_a_full_walk(make_mirror: MakeMirror) -> None:
    mirror = many_deleted(make_mirror)
    mirror.sync()
    assert reject_held(mirror.database, mirror.connection_id) == 70
    mirror.take_call_count()
    mirror.sync()
    assert mirror.nango.calls.graph["users"] == 1


def test_a_rejection_leaves_alone_what_a_round_under_way_has_announced(mirror: Mirror) -> None:
    mirror.tenant.options.delta_page_size = 5
    for index in range(12):
        mirror.tenant.update_user(mirror.tenant.users.id_at(20 + index), jobTitle="Elsewhere")
    mirror.tenant.delete_user(mirror.tenant.users.id_at(1))
    announced = "select count(*) from sync.removals where resource = 'users' and not held"

    def stop_once_it_is_announced(_resource: str, _objects: int, _what: str) -> None:
        if fetch_scalar(mirror.database, announced):
            raise InterruptedError

    request = SyncRequest(fetch_scalar(mirror.database, "select clock_timestamp()"), manual=True)
    with pytest.raises(InterruptedError):
        run_slice(
            mirror.runtime,
            mirror.connection_id,
            trigger=RunTrigger.SCHEDULED,
            request=request,
            on_progress=stop_once_it_is_announced,
        )
    assert reject_held(mirror.database, mirror.connection_id) == 0
    assert fetch_scalar(mirror.database, announced) == 1
    mirror.sync()
    assert_exact(mirror.database, mirror.tenant)


def test_a_tombstone_of_an_unknown_object_is_a_no_op(mirror: Mirror) -> None:
    mark = read_last_seq(mirror.database)
    ghost = mirror.tenant.create_user(displayName="Ghost")
    mirror.tenant.delete_user(ghost, permanently=True)
    assert mirror.sync().state is RunState.SUCCEEDED
    assert read_events(mirror.database, after=mark) == []


def test_a_second_tombstone_changes_the_reason_without_an_event(mirror: Mirror) -> None:
    user = mirror.tenant.users.id_at(3)
    mirror.tenant.delete_user(user)
    mirror.sync()
    mark = read_last_seq(mirror.database)
    mirror.tenant.delete_user(user, permanently=True)
    mirror.sync()
    assert read_events(mirror.database, after=mark) == []
    found = "select deleted_reason from directory.users where id = :id"
    assert fetch_scalar(mirror.database, found, id=user) == "permanently_deleted"


def test_a_deletion_that_cannot_be_confirmed_waits(mirror: Mirror) -> None:
    gone = mirror.tenant.users.id_at(5)
    mirror.tenant.delete_user(gone, permanently=True)
    mirror.tenant.expire_delta_tokens()
    headers = {"content-type": "application/json", "request-id": "simulated"}
    body = b'{"error": {"code": "serviceNotAvailable", "message": ""}}'
    by_id = f"/users/{gone}"
    mirror.nango.before_graph = lambda r: (
        Response(503, body, headers) if r.path.endswith(by_id) else None
    )
    assert mirror.sync("users").state is RunState.PARTIAL
    assert compute_mirror_truth(mirror.database)["users"].count == 60
    mirror.nango.before_graph = None
    assert mirror.sync().state is RunState.SUCCEEDED
    assert_exact(mirror.database, mirror.tenant)
