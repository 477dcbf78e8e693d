"""Managers and sign-ins: what is read of users apart from them, where it is switched on."""

from dataclasses import replace
from typing import Any, Final

import pytest
from msgspec import structs
from sqlalchemy import text

from models.resources import RESOURCES
from models.run import RunState, RunTrigger
from sandbox.tenant import KindCounts, Tenant, TenantOptions
from tests.integration.test_switches import assert_told, count_rows, wish
from tests.support.mirror import (
    MakeMirror,
    Mirror,
    compute_mirror_truth,
    fetch_scalar,
    read_events,
    read_last_seq,
    read_row_versions,
    verify_connection,
)
from worker.erasure.erase import erase
from worker.erasure.target import find_target
from worker.store.state.connections import find_connection
from worker.sync.run import run_slice

NAMES: Final = ("managers", "sign_in_activity")
KINDS: Final = KindCounts(managers=True, sign_ins=True)


def switch_on(mirror: Mirror) -> Mirror:
    wish(mirror, resources=dict.fromkeys(NAMES, True))
    return mirror


@pytest.fixture
def mirror(make_mirror: MakeMirror) -> Mirror:
    """A tenant of which both are mirrored."""
    made = make_mirror(Tenant(seed=7, users=40, groups=4, kinds=KINDS))
    switch_on(made)
    assert made.sync().state is RunState.SUCCEEDED
    return made


def tick(mirror: Mirror, *, walk: bool = False) -> None:
    what = "due_at = now(), full_due_at = now()" if walk else "due_at = now()"
    with mirror.database.open_transaction() as db:
        db.execute(text(f"update sync.streams set {what} where off_at is null"))
    state = RunState.RUNNING
    while state is RunState.RUNNING:
        state = run_slice(mirror.runtime, 1, trigger=RunTrigger.SCHEDULED).state
    assert state is RunState.SUCCEEDED


def assert_exact(mirror: Mirror) -> None:
    found, truth = compute_mirror_truth(mirror.database), mirror.tenant.truth()
    assert {name: found[name] for name in NAMES} == {name: truth[name] for name in NAMES}
    assert_told(mirror)


def read_changes(mirror: Mirror, after: int) -> list[tuple[str, Any]]:
    events = read_events(mirror.database, after=after)
    return [(e["change"], (e["after"] or e["before"])["manager_id"]) for e in events]


def test_they_are_off_unless_they_are_switched_on(make_mirror: MakeMirror) -> None:
    mirror = make_mirror(Tenant(seed=7, users=20, groups=2, kinds=KINDS))
    assert mirror.sync().state is RunState.SUCCEEDED
    assert [count_rows(mirror, name) for name in NAMES] == [0, 0]
    switch_on(mirror)
    tick(mirror)
    assert_exact(mirror)
    assert count_rows(mirror, "managers") > 0


def test_both_are_mirrored_exactly_and_an_unchanged_walk_writes_nothing(mirror: Mirror) -> None:
    assert_exact(mirror)
    assert 0 < count_rows(mirror, "managers") < mirror.tenant.truth()["users"].count
    assert count_rows(mirror, "sign_in_activity") > 0
    versions = read_row_versions(mirror.database)
    mirror.sync(full=True)
    tick(mirror, walk=True)
    assert read_row_versions(mirror.database) == versions


def test_a_delta_tells_who_has_another_manager_or_none(mirror: Mirror) -> None:
    tenant, mark = mirror.tenant, read_last_seq(mirror.database)
    user, first, second = (tenant.users.id_at(n) for n in (30, 3, 4))
    for manager, told in (
        (first, ("created", first)),
        (second, ("updated", second)),
        (None, ("deleted", second)),
        (first, ("restored", first)),
    ):
        tenant.set_manager(user, manager)
        tick(mirror)
        assert read_changes(mirror, mark) == [told]
        mark = read_last_seq(mirror.database)
        assert_exact(mirror)
    new = tenant.create_user(displayName="New")
    tick(mirror)
    tenant.update_user(user, jobTitle="x")
    tick(mirror)
    assert not [e for e in read_events(mirror.database, after=mark) if e["resource"] == "managers"]
    tenant.delete_user(user)
    tenant.delete_user(new)
    tick(mirror)
    assert_exact(mirror)


def test_the_nightly_list_finds_what_no_delta_told(mirror: Mirror) -> None:
    tenant = mirror.tenant
    kept, lost, got = (tenant.users.id_at(n) for n in (30, 31, 32))
    for user, manager in (
        (kept, tenant.users.id_at(4)),
        (lost, tenant.users.id_at(4)),
        (got, None),
    ):
        tenant.set_manager(user, manager)
    tick(mirror)
    tenant.options.manager_delta_silent = 1.0
    tenant.set_manager(kept, tenant.users.id_at(5))
    tenant.set_manager(lost, None)
    tenant.set_manager(got, tenant.users.id_at(6))
    mark = read_last_seq(mirror.database)
    tick(mirror)
    assert read_events(mirror.database, after=mark) == []
    tick(mirror, walk=True)
    changes = {e["object_id"]: e["change"] for e in read_events(mirror.database, after=mark)}
    assert changes == {kept: "updated", lost: "deleted", got: "restored"}
    assert_exact(mirror)
    drift = "select drift -> 'managers' from sync.streams where resource = 'managers'"
    assert fetch_scalar(mirror.database, drift)["updated"] == 1
    due = (
        "select full_due_at between now() + interval '21 hours' and now() + interval '27 hours'"
        " from sync.streams where resource = 'managers'"
    )
    assert fetch_scalar(mirror.database, due) is True


def test_requests_are_those_that_graph_documents(mirror: Mirror) -> None:
    managers, sign_ins = (RESOURCES[name] for name in NAMES)
    assert managers.selected == ("id", "manager")
    assert sign_ins.selected == ("id", "signInActivity")
    mirror.nango.calls.reset()
    tick(mirror)
    assert mirror.nango.calls.graph["users"] == 1, "sign-ins are listed"


def test_a_list_without_a_manager_removes_no_more_than_is_plausible(mirror: Mirror) -> None:
    """Graph has lost all managers: an operator is asked."""
    tenant = mirror.tenant
    settings = structs.replace(mirror.runtime.settings, guard_rows=5)
    mirror.runtime = replace(mirror.runtime, settings=settings)
    for index in range(40):
        tenant.set_manager(tenant.users.id_at(index), None)
    mirror.sync()
    assert (
        fetch_scalar(mirror.database, "select phase from sync.streams where resource = 'managers'")
        == "held"
    )
    assert compute_mirror_truth(mirror.database)["managers"].count > 0


def test_sign_ins_have_no_events_and_no_history(mirror: Mirror) -> None:
    tenant, mark = mirror.tenant, read_last_seq(mirror.database)
    user, gone = tenant.users.id_at(3), tenant.users.id_at(4)
    tenant.set_sign_in(user, interactive="2026-11-30T01:02:03Z")
    tenant.set_sign_in(gone, interactive="2026-11-30T01:02:03Z")
    tick(mirror)
    last = "select last_sign_in_date_time from directory.sign_in_activity where id = :id"
    assert str(fetch_scalar(mirror.database, last, id=user)).startswith("2026-11-30 01:02:03")
    tenant.delete_user(gone)
    tick(mirror)
    events = read_events(mirror.database, after=mark)
    assert {e["resource"] for e in events} <= {"users", "group_members", "managers"}
    assert_exact(mirror)
    with mirror.database.open_transaction() as db:
        db.execute(
            text(
                "update directory.sign_in_activity set last_sign_in_date_time = now()"
                " where id = :id"
            ),
            {"id": user},
        )
    problems = verify_connection(mirror.database).problems
    assert problems == [f"sign_in_activity {user}: its content does not match its hash"]


def test_pages_of_sign_ins_shrink_until_graph_answers(make_mirror: MakeMirror) -> None:
    options = TenantOptions(sign_in_max_page=120)
    mirror = make_mirror(Tenant(seed=8, users=300, groups=2, kinds=KINDS, options=options))
    switch_on(mirror)
    state = mirror.sync().state
    for _ in range(6):
        if state is RunState.SUCCEEDED:
            break
        tick(mirror)
        state = mirror.sync().state
    assert_exact(mirror)


def test_a_person_who_is_erased_is_in_neither(mirror: Mirror) -> None:
    tenant = mirror.tenant
    person, below = tenant.users.id_at(0), tenant.users.id_at(1)
    tenant.set_manager(below, person)
    tick(mirror)
    with mirror.database.open_transaction() as db:
        target = find_target(db, find_connection(db, "1"), person, None)
    erase(mirror.database, target, lambda _table, _rows: None)
    left = (
        "select (select count(*) from directory.managers where :id in (id, manager_id))"
        " + (select count(*) from directory.sign_in_activity where id = :id)"
    )
    assert fetch_scalar(mirror.database, left, id=person) == 0
    tick(mirror, walk=True)
    assert fetch_scalar(mirror.database, left, id=person) == 0


def test_a_tenant_without_the_licence_is_not_licensed_for_sign_ins(
    make_mirror: MakeMirror,
) -> None:
    mirror = make_mirror(
        Tenant(seed=9, users=10, groups=2, kinds=KINDS, options=TenantOptions(licences=set()))
    )
    switch_on(mirror)
    assert mirror.sync().state is RunState.SUCCEEDED
    shown = "select reason from sync.streams where resource = 'sign_in_activity'"
    assert "the tenant has no licence for this" in fetch_scalar(mirror.database, shown)
    assert compute_mirror_truth(mirror.database)["managers"] == mirror.tenant.truth()["managers"]
