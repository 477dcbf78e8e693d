"""Lists below the objects of another resource: who may use each application."""

from typing import Any, Final

import pytest
from msgspec import structs
from sqlalchemy import text

from models.run import RunState, RunTrigger
from sandbox.tenant import KindCounts, Request, Response, Tenant
from sandbox.tenant.directory.templates.applications import NO_ROLE
from tests.integration.test_switches import execute, wish
from tests.support.mirror import (
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
from worker.core.settings import Settings
from worker.erasure.erase import erase
from worker.erasure.target import find_target
from worker.overview.fleet import load_fleet
from worker.store.state.connections import find_connection
from worker.sync.context import OnProgress, ignore_progress
from worker.sync.run import run_slice

NAME, PARENTS = "other_app_role_assignments", "service_principals"
ALL: Final = "app_role_assignments"
"""The tenant's store, which has the app roles of Microsoft Graph as well."""
PATH: Final = "servicePrincipals/{id}/appRoleAssignedTo"
KINDS: Final = KindCounts(service_principals=45, app_roles=6, other_app_roles=70)
ROUNDS: Final = 3
"""Calls for 44 lists, 19 in each."""


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return structs.replace(settings, resources_on=(NAME,))


@pytest.fixture
def mirror(make_synced: MakeSynced) -> Mirror:
    return make_synced(seed=41, users=30, groups=5, kinds=KINDS)


def slice_once(mirror: Mirror, progress: OnProgress = ignore_progress) -> RunState:
    return run_slice(mirror.runtime, 1, trigger=RunTrigger.SCHEDULED, on_progress=progress).state


def tick(mirror: Mirror) -> RunState:
    """Slices by the clock until nothing is left to do; the lists are due."""
    execute(mirror, "update sync.streams set due_at = now() where off_at is null")
    state = RunState.RUNNING
    while state is RunState.RUNNING:
        state = slice_once(mirror)
    return state


def read_stream(mirror: Mirror) -> Any:
    statement = text(f"select * from sync.streams where resource = '{NAME}'")
    with mirror.database.open_transaction() as db:
        return db.execute(statement).one()


def list_roles(tenant: Tenant) -> list[dict[str, Any]]:
    return list(tenant.iterate_live(NAME))


def pick_parents(tenant: Tenant) -> list[str]:
    """Applications with at least two roles, those with most of them first."""
    held: dict[str, int] = {}
    for one in list_roles(tenant):
        held[one["resourceId"]] = held.get(one["resourceId"], 0) + 1
    return sorted((one for one, n in held.items() if n > 1), key=lambda one: (-held[one], one))


def count_of(mirror: Mirror, parent: str) -> int:
    statement = f"select count(*) from directory.{NAME} where resource_id = :id and {{}}"
    found: int = fetch_scalar(mirror.database, statement.format("deleted_at is null"), id=parent)
    return found


def list_changes(mirror: Mirror, after: int) -> dict[str, str]:
    events = read_events(mirror.database, after=after)
    return {one["object_id"]: one["change"] for one in events if one["resource"] == NAME}


def is_exact(mirror: Mirror) -> bool:
    return compute_mirror_truth(mirror.database)[NAME] == mirror.tenant.truth()[NAME]


# ---- what is mirrored, and what it costs


def test_the_roles_of_all_other_applications_are_mirrored_and_none_twice(mirror: Mirror) -> None:
    """Those of users, groups and applications; also those of managed identities."""
    tenant = mirror.tenant
    assert_exact(mirror.database, tenant)
    identity = tenant.create_object(PARENTS, servicePrincipalType="ManagedIdentity")
    application = tenant.service_principals.id_at(9)
    made = {
        tenant.assign_app_role(application, identity, NO_ROLE, PARENTS),
        tenant.assign_app_role(application, tenant.users.id_at(3)),
        tenant.assign_app_role(application, tenant.groups.id_at(2), NO_ROLE, "groups"),
    }
    mark = read_last_seq(mirror.database)
    mirror.sync()
    assert list_changes(mirror, mark) == dict.fromkeys(made, "created")
    assert_exact(mirror.database, tenant)
    twice = f"select count(*) from directory.{NAME} o join directory.{ALL} g using (id)"
    assert fetch_scalar(mirror.database, twice) == 0
    shown = (
        "select count(*), count(*) filter (where resource_name = 'Microsoft Graph')"
        " from analytics.app_role_assignments"
    )
    with mirror.database.open_transaction() as db:
        every, of_graph = db.execute(text(shown)).one()
    truth = tenant.truth()
    assert (every, of_graph) == (truth[NAME].count + truth[ALL].count, truth[ALL].count)


def test_a_quiet_tick_costs_one_call_and_a_walk_one_for_each_19(mirror: Mirror) -> None:
    mirror.nango.calls.reset()
    execute(mirror, f"update sync.streams set due_at = now() where resource <> '{NAME}'")
    assert slice_once(mirror) is RunState.SUCCEEDED
    assert mirror.take_call_count() == 1
    versions = read_row_versions(mirror.database)
    mirror.sync(NAME)
    assert mirror.nango.calls.graph[PATH] == 44
    assert mirror.take_call_count() == 1 + ROUNDS
    assert read_row_versions(mirror.database) == versions
    due = "select due_at between now() + interval '22 hours' and now() + interval '26 hours'"
    assert fetch_scalar(mirror.database, f"{due} from sync.streams where resource = '{NAME}'")


def test_a_first_load_reads_each_list_once(make_mirror: MakeMirror) -> None:
    """Together with the applications that it needs, which were all stored in the same slice."""
    mirror = make_mirror(Tenant(seed=41, users=30, groups=5, kinds=KINDS))
    assert slice_once(mirror) is RunState.SUCCEEDED
    assert mirror.nango.calls.graph[PATH] == 44 + 1, "and that of Microsoft Graph"
    assert_exact(mirror.database, mirror.tenant)


def test_long_lists_are_followed_beside_each_other(mirror: Mirror) -> None:
    tenant = mirror.tenant
    for index in range(30):
        for place in (9, 12):
            tenant.assign_app_role(
                tenant.service_principals.id_at(place), tenant.users.id_at(index)
            )
    tenant.options.max_page_size, tenant.options.empty_page_every = 4, 3
    assert mirror.sync().state is RunState.SUCCEEDED
    assert_exact(mirror.database, tenant)


# ---- what it waits for


def test_it_waits_while_its_parents_are_off_and_keeps_its_rows(mirror: Mirror) -> None:
    tenant, held = mirror.tenant, compute_mirror_truth(mirror.database)[NAME]
    wish(mirror, resources={PARENTS: False})
    tenant.assign_app_role(tenant.service_principals.id_at(9), tenant.users.id_at(3))
    assert tick(mirror) is RunState.PARTIAL
    assert "switched off" in read_stream(mirror).reason
    mirror.nango.calls.reset()
    report = mirror.sync(NAME)
    assert (report.state, mirror.nango.calls.graph[PATH]) == (RunState.PARTIAL, 0)
    assert f"{NAME}: needs {PARENTS}, which is switched off" in (report.message or "")
    assert compute_mirror_truth(mirror.database)[NAME] == held
    (look,) = load_fleet(mirror.database, mirror.runtime.settings).connections
    told = [one for one in look.conditions if one.resource == NAME]
    assert [one.remedy.endswith(f"switch {PARENTS} on, or {NAME} off") for one in told] == [True]
    wish(mirror, resources={})
    assert tick(mirror) is RunState.SUCCEEDED
    assert_exact(mirror.database, tenant)


@pytest.mark.parametrize("page", [0, 1])
def test_a_walk_under_way_waits_as_well(mirror: Mirror, page: int) -> None:
    """And goes on where it was, once its parents can be read again."""
    tenant, held = mirror.tenant, compute_mirror_truth(mirror.database)[NAME]
    begin_walk(mirror, pages=page + 1)
    place = read_stream(mirror).next_link
    wish(mirror, resources={PARENTS: False})
    assert tick(mirror) is RunState.PARTIAL
    assert compute_mirror_truth(mirror.database)[NAME] == held
    assert read_stream(mirror).next_link == place
    wish(mirror, resources={})
    assert tick(mirror) is RunState.SUCCEEDED
    assert_exact(mirror.database, tenant)


def test_it_waits_while_its_parents_are_refused(mirror: Mirror) -> None:
    tenant, held = mirror.tenant, compute_mirror_truth(mirror.database)[NAME]
    tenant.options.refused_resources = {PARENTS}
    assert tick(mirror) is RunState.PARTIAL
    assert tick(mirror) is RunState.PARTIAL
    assert read_stream(mirror).reason == f"needs {PARENTS}, which Graph refuses"
    assert compute_mirror_truth(mirror.database)[NAME] == held
    tenant.options.refused_resources = set()
    tenant.assign_app_role(tenant.service_principals.id_at(9), tenant.users.id_at(3))
    assert tick(mirror) is RunState.SUCCEEDED
    assert_exact(mirror.database, tenant)


def test_it_waits_until_its_parents_have_been_read_completely(mirror: Mirror) -> None:
    """It never makes its connection due by itself."""
    tenant = mirror.tenant
    execute(mirror, f"update sync.streams set due_at = now() where resource = '{NAME}'")
    execute(
        mirror,
        "update sync.streams set due_at = now() + interval '5 minutes', phase = 'ready',"
        f" first_complete_at = null, delta_link = null where resource = '{PARENTS}'",
    )
    slice_once(mirror)
    stream = read_stream(mirror)
    assert (stream.due_at, "not been read completely" in stream.reason) == (None, True)
    later = "select due_at > now() + interval '1 minute' from sync.connections"
    assert fetch_scalar(mirror.database, later)
    assert tick(mirror) is RunState.SUCCEEDED
    assert_exact(mirror.database, tenant)


# ---- one list that cannot be read


def test_the_list_of_an_application_that_was_deleted_is_no_failure(mirror: Mirror) -> None:
    """Between the list of applications and its own; its roles are read by id and deleted."""
    tenant, parent = mirror.tenant, pick_parents(mirror.tenant)[0]
    execute(mirror, f"update sync.streams set due_at = now() where resource = '{NAME}'")
    tenant.delete_service_principal(parent)
    assert slice_once(mirror) is RunState.SUCCEEDED
    assert count_of(mirror, parent) == 0
    assert is_exact(mirror)


def test_a_refused_list_is_left_as_it_is_and_read_again_alone(mirror: Mirror) -> None:
    tenant = mirror.tenant
    refused, other = pick_parents(tenant)[:2]
    before = count_of(mirror, refused)
    tenant.options.refused_service_principals = {refused}
    gone = [one["id"] for one in list_roles(tenant) if one["resourceId"] in (refused, other)]
    for one in gone:
        tenant.delete_object(ALL, one)
    kept = tenant.assign_app_role(refused, tenant.users.id_at(7))
    assert mirror.sync().state is RunState.PARTIAL
    assert (count_of(mirror, refused), count_of(mirror, other)) == (before, 0)
    assert fetch_scalar(mirror.database, "select count(*) from sync.unresolved") == 1
    tenant.options.refused_service_principals = set()
    execute(mirror, "update sync.unresolved set retry_at = now()")
    execute(mirror, "update sync.streams set due_at = now() where resource = 'users'")
    mirror.nango.calls.reset()
    mark = read_last_seq(mirror.database)
    assert slice_once(mirror) is RunState.SUCCEEDED
    assert mirror.nango.calls.graph[PATH] == 1, "no other list is read"
    assert list_changes(mirror, mark).pop(kept) == "created"
    assert fetch_scalar(mirror.database, "select count(*) from sync.unresolved") == 0
    assert_exact(mirror.database, tenant)
    since = f"select live_since from directory.{NAME} where id = :id"
    assert fetch_scalar(mirror.database, since, id=kept) is None, "it may have been there before"


def test_a_role_that_a_list_lacks_when_it_is_read_again_stays_if_graph_has_it(
    mirror: Mirror,
) -> None:
    tenant, parent = mirror.tenant, pick_parents(mirror.tenant)[0]
    tenant.options.refused_service_principals = {parent}
    assert mirror.sync().state is RunState.PARTIAL
    tenant.options.refused_service_principals = set()

    def answer(request: Request) -> Response | None:
        if not request.path.endswith(f"{parent}/appRoleAssignedTo"):
            return None
        return Response(200, b'{"value":[]}', {"content-type": "application/json"})

    mirror.nango.before_graph = answer
    mark = read_last_seq(mirror.database)
    execute(mirror, "update sync.unresolved set retry_at = now()")
    execute(mirror, "update sync.streams set due_at = now() where resource = 'users'")
    assert slice_once(mirror) is RunState.SUCCEEDED
    assert list_changes(mirror, mark) == {}
    assert_exact(mirror.database, tenant)


def test_a_list_that_never_ends_is_given_up_alone(mirror: Mirror) -> None:
    tenant, parent = mirror.tenant, pick_parents(mirror.tenant)[0]
    before, other = count_of(mirror, parent), pick_parents(tenant)[1]
    gone = next(one["id"] for one in list_roles(tenant) if one["resourceId"] == other)
    tenant.delete_object(ALL, gone)
    path, number = f"servicePrincipals/{parent}/appRoleAssignedTo", iter(range(1000))

    def answer(request: Request) -> Response | None:
        if not request.path.endswith(path):
            return None
        link = f"https://graph.microsoft.com/v1.0/{path}?$skiptoken={next(number)}"
        body = f'{{"value":[],"@odata.nextLink":"{link}"}}'.encode()
        return Response(200, body, {"content-type": "application/json"})

    mirror.nango.before_graph = answer
    report = mirror.sync(NAME)
    assert report.state is RunState.PARTIAL
    assert f"list of service principal {parent}: Graph's next links form a cycle" in str(
        report.message
    )
    mirror.nango.before_graph = None
    assert (count_of(mirror, parent), count_of(mirror, other)) == (
        before,
        sum(one["resourceId"] == other for one in list_roles(tenant)),
    )


# ---- what concerns all of them


def test_a_refusal_of_all_lists_names_the_permission(mirror: Mirror) -> None:
    tenant, held = mirror.tenant, compute_mirror_truth(mirror.database)[NAME]
    tenant.options.refused_resources = {NAME}
    report = mirror.sync()
    assert report.state is RunState.PARTIAL
    assert "Application.Read.All" in (report.message or "")
    assert read_stream(mirror).phase == "refused"
    assert fetch_scalar(mirror.database, "select count(*) from sync.unresolved") == 0
    assert compute_mirror_truth(mirror.database)[NAME] == held
    tenant.options.refused_resources = set()
    assert mirror.sync().state is RunState.SUCCEEDED
    assert_exact(mirror.database, tenant)


def test_pages_shrink_where_graph_times_out(mirror: Mirror) -> None:
    tenant = mirror.tenant
    tenant.options.time_out_app_roles_above = 500
    for _ in range(8):
        if mirror.sync().state is RunState.SUCCEEDED:
            break
    assert read_stream(mirror).page_size == 499
    assert_exact(mirror.database, tenant)


def test_expired_links_start_their_lists_again(mirror: Mirror) -> None:
    tenant = mirror.tenant
    tenant.options.max_page_size = 2
    begin_walk(mirror, pages=1)
    assert "skiptoken" in read_stream(mirror).next_link
    number = read_stream(mirror).walk_id
    tenant.expire_page_tokens()
    assert tick(mirror) is RunState.SUCCEEDED
    assert read_stream(mirror).walk_id == number + 1, "the same walk has ended"
    assert_exact(mirror.database, tenant)


# ---- proofs, and what happens in between


def test_what_no_list_shows_is_read_by_its_id_first(mirror: Mirror) -> None:
    tenant, mark = mirror.tenant, read_last_seq(mirror.database)
    gone, kept = [one["id"] for one in list_roles(tenant)][:2]
    tenant.delete_object(ALL, gone)
    mirror.nango.calls.reset()
    mirror.sync(NAME)
    assert mirror.nango.calls.graph[f"{PATH}/{{id}}"] == 1
    assert list_changes(mirror, mark) == {gone: "deleted"}
    mark = read_last_seq(mirror.database)
    parent = next(one["resourceId"] for one in list_roles(tenant) if one["id"] == kept)

    def answer(request: Request) -> Response | None:
        if not request.path.endswith(f"{parent}/appRoleAssignedTo"):
            return None
        return Response(200, b'{"value":[]}', {"content-type": "application/json"})

    mirror.nango.before_graph = answer
    mirror.sync(NAME)
    assert list_changes(mirror, mark) == {}, "Graph still has it, but did not list it"
    mirror.nango.before_graph = None
    assert mirror.sync().state is RunState.SUCCEEDED
    assert_exact(mirror.database, tenant)


def test_implausibly_many_deletions_wait_for_an_operator(mirror: Mirror) -> None:
    tenant = mirror.tenant
    before = compute_mirror_truth(mirror.database)[NAME]
    for one in list_roles(tenant):
        tenant.delete_object(ALL, one["id"])
    assert mirror.sync(NAME).state is RunState.HELD
    assert compute_mirror_truth(mirror.database)[NAME] == before


class DiedError(BaseException):
    """Not an Exception: no code may handle the end of its process."""


def begin_walk(mirror: Mirror, pages: int) -> None:
    """A walk that is killed after some pages."""
    execute(mirror, f"update sync.streams set due_at = now() where resource = '{NAME}'")
    left = iter(range(pages - 1))

    def die(resource: str, _objects: int, _what: str) -> None:
        if resource == NAME and next(left, None) is None:
            raise DiedError

    with pytest.raises(DiedError):
        slice_once(mirror, die)
    execute(mirror, "update sync.leases set expires_at = null")


@pytest.mark.parametrize("pages", [1, 2, 3, 4])
def test_a_killed_walk_goes_on_where_it_was(mirror: Mirror, pages: int) -> None:
    """At each page: three of lists, and one of what changed meanwhile."""
    tenant, gone = mirror.tenant, list_roles(mirror.tenant)[:3]
    for one in gone:
        tenant.delete_object(ALL, one["id"])
    begin_walk(mirror, pages)
    mirror.nango.calls.reset()
    execute(mirror, f"update sync.streams set due_at = now() where resource = '{NAME}'")
    while slice_once(mirror) is RunState.RUNNING:
        pass
    assert mirror.nango.calls.graph[PATH] == max(0, 44 - 19 * pages)
    assert_exact(mirror.database, tenant)


def test_an_application_that_comes_during_the_walk_is_read_by_it(mirror: Mirror) -> None:
    """Although the walk may have passed its id."""
    tenant = mirror.tenant
    begin_walk(mirror, pages=3)
    made = [tenant.create_object(PARENTS) for _ in range(4)]
    for one in made:
        tenant.assign_app_role(one, tenant.users.id_at(3))
    execute(mirror, f"update sync.streams set due_at = now() where resource = '{PARENTS}'")
    slice_of_parents(mirror)
    mirror.nango.calls.reset()
    assert tick(mirror) is RunState.SUCCEEDED
    assert {count_of(mirror, one) for one in made} == {1}
    assert mirror.nango.calls.graph[PATH] <= 10, "only what came is read once more"


def slice_of_parents(mirror: Mirror) -> None:
    """The applications alone are read."""
    execute(
        mirror,
        "update sync.streams set due_at = now() + interval '1 hour' where resource <> :parents",
        parents=PARENTS,
    )
    slice_once(mirror)


def test_an_erased_person_uses_no_application(mirror: Mirror) -> None:
    tenant, user = mirror.tenant, mirror.tenant.users.id_at(4)
    tenant.assign_app_role(tenant.service_principals.id_at(9), user)
    mirror.sync()
    left = f"select count(*) from directory.{NAME} where principal_id = :id"
    assert fetch_scalar(mirror.database, left, id=user) > 0
    with mirror.database.open_transaction() as db:
        target = find_target(db, find_connection(db, "1"), user, None)
    erase(mirror.database, target, lambda _table, _rows: None)
    mirror.sync(full=True)
    assert fetch_scalar(mirror.database, left, id=user) == 0
