"""A person is erased: nothing here tells any more who that was, and no sync brings them back."""

import json
import re
import uuid
from collections.abc import Iterator
from dataclasses import replace
from threading import Event, Thread
from typing import Any

import pytest
import redis
import sqlalchemy as sa
from msgspec import structs
from sqlalchemy import text

from models.erasure import ERASED_PREFIX
from models.property import Property
from models.resource import Resource
from models.resources import ERASABLE, ERASABLE_REFERENCES, RESOURCES
from models.run import RunState, RunTrigger
from sandbox.servers import Servers
from sandbox.tenant import Nango, Request, Response, Tenant
from sandbox.tenant.graph.service import GraphService
from tests.support.erasure import assert_exact_without, find_traces
from tests.support.leases import take_lease
from tests.support.mirror import (
    MakeMirror,
    Mirror,
    assert_exact,
    fetch_scalar,
    read_events,
    read_last_seq,
    read_live_rows,
    verify_connection,
)
from tests.support.service import wait_until
from tests.support.synced import SyncedStates
from worker.core.errors import LeaseLost, NotFound, StateConflict
from worker.core.secret import SecretStr
from worker.delivery.relay import Relay
from worker.erasure.erase import (
    continue_erasure,
    erase,
    find_related,
    finish_erasures,
    lift_erasure,
)
from worker.erasure.rows import ErasureResult
from worker.erasure.store import events
from worker.erasure.store.lookup import find_referenced_resource
from worker.erasure.store.sinks import SINK_WAIT_DAYS
from worker.erasure.target import ErasureTarget, find_target, parse_digest
from worker.store import lease
from worker.store.engine import Database
from worker.store.state.connections import find_connection
from worker.store.state.erasures import get_digests, list_erasures, load_erased
from worker.sync.connections.discover import discover
from worker.sync.finish.approve import approve_held, reject_held
from worker.sync.run import run_slice
from worker.sync.runtime import Runtime
from worker.tasks.maintenance import run_maintenance


def silent(_table: str, _rows: int) -> None:
    """Nobody watches."""


class SimulatedKill(BaseException):  # not an Exception: no code may handle the end of its process
    """The process dies here."""


def die(_table: str, _rows: int) -> None:
    raise SimulatedKill


def found(mirror: Mirror, named: str, resource: str | None = None) -> ErasureTarget:
    with mirror.database.open_transaction() as db:
        return find_target(db, find_connection(db, "1"), named, resource)


def erased(
    mirror: Mirror, named: str, resource: str | None = None, *, batch: int = 50
) -> ErasureResult:
    return erase(mirror.database, found(mirror, named, resource), silent, batch_size=batch)


def lifted(mirror: Mirror, named: str) -> None:
    with mirror.database.open_transaction() as db:
        digest = parse_digest(db, named)
    lift_erasure(mirror.database, 1, digest)


class Person:
    """A user of the tenant with everything that there is to be erased."""

    def __init__(self, tenant: Tenant, number: int = 4) -> None:
        self.tenant = tenant
        self.id = tenant.users.id_at(number)
        tenant.update_user(
            self.id,
            displayName="Adele Vance-Quill",
            userPrincipalName="Adele.Quill@contoso.example",
            mail="adele.quill@mail.contoso.example",
            proxyAddresses=["SMTP:adele.quill@mail.contoso.example"],
            mobilePhone="+47 555 01 234",
        )
        for edge in list(tenant.iterate_live("group_members")):
            if edge["id"] == self.id:
                tenant.remove_member(edge["groupId"], self.id)
        self.groups = [tenant.groups.id_at(n) for n in (0, 1, 2)]
        for group in self.groups:
            tenant.add_member(group, self.id)
        self.roles = [tenant.role_definitions.id_at(n) for n in (0, 1)]
        self.assignments = [tenant.assign_role(role, self.id) for role in self.roles]

    def move(self) -> None:
        """Something of everything happens to them: events of all kinds."""
        tenant, first = self.tenant, self.groups[0]
        tenant.update_user(
            self.id, jobTitle="Keeper", userPrincipalName="adele.vance@contoso.example"
        )
        tenant.remove_member(first, self.id)
        tenant.unassign_role(self.assignments[0])

    @property
    def names(self) -> list[str]:
        return [
            self.id,
            "Vance-Quill",
            "Adele.Quill",
            "adele.quill@mail",
            "adele.vance",
            "555 01 234",
            *self.assignments,
        ]


@pytest.fixture
def tenant() -> Tenant:
    return Tenant(seed=3, users=60, groups=8, sites=6)


@pytest.fixture
def person(tenant: Tenant) -> Person:
    return Person(tenant)


@pytest.fixture
def mirror(runtime: Runtime, nango: Nango, synced_states: SyncedStates, person: Person) -> Mirror:
    """A small tenant, mirrored, with a person who has a history."""
    made = Mirror(runtime, nango, person.tenant)
    nango.add_connection("contoso", made.tenant)
    if synced_states.restore(runtime.settings, "a person who has a history"):
        person.move()
        return made
    discover(runtime.database, runtime.nango, runtime.settings)
    made.sync()
    person.move()
    made.sync()
    assert_exact(made.database, person.tenant)
    synced_states.keep(runtime.settings, "a person who has a history")
    return made


SENTENCES = (
    """update sync.runs set error = :told, resources = resources
       || jsonb_build_object('users', jsonb_build_object('problem', cast(:told as text)))
        where id = 1""",
    "update sync.connections set status_reason = :told",
)


def say(mirror: Mirror, person: Person, *statements: str) -> None:
    """Name the person in sentences, by the id and by names that are no longer theirs."""
    edge = f"{person.groups[1]}/{person.id}"
    told = f"Graph choked on {person.id} (Adele Vance-Quill, ADELE.QUILL@contoso.example)"
    with mirror.database.open_transaction() as db:
        for statement in statements or SENTENCES:
            values = {"id": person.id, "edge": edge, "told": told}
            values["assignment"] = person.assignments[1]
            used = {name: values[name] for name in re.findall(r":([a-z]+)\b", statement)}
            db.execute(text(statement), used)


EVIDENCE = (
    """insert into sync.seen values
       (1, 'users', 9, 0, array['a', :id, 'b'], '{1,2,3}'),
       (1, 'groups', 9, 0, '{c}', null),
       (1, 'group_members', 9, 0, array['g/m', :edge], null),
       (1, 'role_assignments', 9, 0, array[:assignment], null)""",
    """insert into sync.removals (connection_id, resource, key, reason, held) values
       (1, 'users', :id, 'soft_deleted', true), (1, 'users', 'k', 'soft_deleted', true),
       (1, 'group_members', :edge, 'not_seen', true),
       (1, 'role_assignments', :assignment, 'not_seen', false)""",
    """insert into sync.candidates (connection_id, resource, key, walk_id) values
       (1, 'users', :id, 9), (1, 'users', 'k', 9), (1, 'group_members', :edge, 9),
       (1, 'role_assignments', :assignment, 9)""",
    """insert into sync.quarantine (connection_id, resource, key, reason) values
       (1, 'users', :id, 'odd'), (1, 'users', 'k', :told),
       (1, 'role_assignments', :assignment, 'odd')""",
    """insert into sync.unresolved (connection_id, resource, kind, key, reason, retry_at) values
       (1, 'users', 'member_of', :id, 'Graph answers 403', now()),
       (1, 'users', 'object', 'k', :told, now())""",
    "update sync.streams set reason = :told where resource = 'users'",
)


def test_nothing_names_the_person_any_more(mirror: Mirror, person: Person) -> None:
    say(mirror, person, *SENTENCES, *EVIDENCE)
    named = find_traces(mirror.database, person.names)
    assert {
        "directory.users.id",
        "directory.group_members.member_id",
        "directory.role_assignments.id",
        "directory.role_assignments.principal_id",
        "events.change_events.object_id",
        "events.change_events.before",
        "events.change_events.after",
        "sync.candidates.key",
        "sync.connections.status_reason",
        "sync.quarantine.key",
        "sync.quarantine.reason",
        "sync.removals.key",
        "sync.runs.error",
        "sync.runs.resources",
        "sync.seen.keys",
        "sync.streams.reason",
        "sync.unresolved.key",
        "sync.unresolved.reason",
    } <= named.keys(), "the test is about everything"
    done = erased(mirror, person.id)
    assert find_traces(mirror.database, person.names) == {}
    assert done.sinks_behind == []
    assert done.row_counts["directory.users"] == 1
    assert done.row_counts["events.change_events"] == named["events.change_events.object_id"] + 4
    error = fetch_scalar(mirror.database, "select error from sync.runs where id = 1")
    assert error == "Graph choked on erased (erased, erased)"
    seen = "select keys || properties::text from sync.seen where resource = 'users'"
    assert fetch_scalar(mirror.database, seen) == ["a", "b", "{1,3}"]
    for table in ("removals", "candidates"):
        left = f"select array_agg(key) from sync.{table}"
        assert fetch_scalar(mirror.database, left) == ["k"]


def shape(mirror: Mirror) -> list[tuple[Any, ...]]:
    """What an erasure keeps of events."""
    kept = ("seq", "event_id", "occurred_at", "resource", "change", "run_id", "initial")
    return [tuple(event[name] for name in kept) for event in read_events(mirror.database)]


def test_that_something_happened_is_kept(mirror: Mirror, person: Person) -> None:
    before, mark = shape(mirror), read_last_seq(mirror.database)
    old = read_events(mirror.database)
    done = erased(mirror, person.id)
    now = read_events(mirror.database)
    assert shape(mirror)[: len(before)] == before
    closing = [(e["resource"], e["change"]) for e in now if e["seq"] > mark]
    assert closing == [
        *[("group_members", "deleted")] * 2,
        ("role_assignments", "deleted"),
        ("users", "deleted"),
    ]
    assert now[-1]["object_id"] == done.placeholder
    scrubbed = [event for event in now if ERASED_PREFIX in event["object_id"]]
    for event in scrubbed:
        assert (event["before"], event["after"], event["changed"]) == (None, None, None)
    edges = {e["object_id"] for e in scrubbed if e["resource"] == "group_members"}
    assert edges == {f"{group}/{done.placeholder}" for group in person.groups}
    assignments = {e["object_id"] for e in scrubbed if e["resource"] == "role_assignments"}
    assert len(assignments) == len(person.assignments), "each keeps a digest of its own"
    others = {e["seq"]: e for e in old if e["seq"] not in {e["seq"] for e in scrubbed}}
    assert {e["seq"]: e for e in now if e["seq"] in others} == others
    verified = verify_connection(mirror.database)
    assert verified.problems == []
    assert verified.erased == len(scrubbed)


def test_no_sync_brings_the_person_back_and_nobody_else_is_missing(
    mirror: Mirror, person: Person
) -> None:
    tenant, one = person.tenant, person.id
    erased(mirror, one)
    for step in range(5):
        if step == 1:
            tenant.update_user(one, displayName="Adele Vance-Quill again")
            tenant.add_member(tenant.groups.id_at(3), one)
            tenant.assign_role(tenant.role_definitions.id_at(2), one)
            tenant.touch_group(person.groups[1])
        if step == 2:
            tenant.delete_user(one)
        if step == 3:
            tenant.restore_user(one)
        if step in (0, 4):
            tenant.mutate(15)
        report = mirror.sync(full=step == 4)
        assert report.state is RunState.SUCCEEDED, report.message
        assert_exact_without(mirror, tenant, one)
        assert find_traces(mirror.database, person.names) == {}, f"step {step}"


def test_after_lifting_the_next_full_walk_brings_the_person_back(
    mirror: Mirror, person: Person
) -> None:
    erased(mirror, person.id)
    mirror.sync(full=True)
    mark = read_last_seq(mirror.database)
    lifted(mirror, person.id)
    assert fetch_scalar(mirror.database, "select requested_full from sync.connections")
    run_slice(mirror.runtime, 1, trigger=RunTrigger.MANUAL)
    assert_exact(mirror.database, person.tenant)
    back = [(e["resource"], e["change"]) for e in read_events(mirror.database, after=mark)]
    assert sorted(back) == [
        *[("group_members", "created")] * 2,
        ("role_assignments", "created"),
        ("users", "created"),
    ]
    with mirror.database.open_transaction() as db:
        assert list_erasures(db, 1) == []
    with pytest.raises(NotFound, match="no such erasure"):
        lifted(mirror, person.id)
    again = erased(mirror, person.id)
    assert again.is_new
    assert find_traces(mirror.database, person.names) == {}
    assert verify_connection(mirror.database).problems == []


def test_an_erasure_can_be_lifted_by_its_digest(mirror: Mirror, person: Person) -> None:
    done = erased(mirror, person.id)
    with pytest.raises(NotFound, match="neither an id nor a digest"):
        lifted(mirror, "adele.vance@contoso.example")
    lifted(mirror, done.placeholder)
    mirror.sync(full=True)
    assert_exact(mirror.database, person.tenant)


@pytest.mark.parametrize(
    "named", ["ADELE.vance@contoso.example", "adele.quill@MAIL.contoso.example"]
)
def test_a_user_is_found_by_principal_name_or_mail(
    mirror: Mirror, person: Person, named: str
) -> None:
    assert found(mirror, named) == ErasureTarget(1, "users", person.id)
    assert found(mirror, person.id.upper()) == ErasureTarget(1, "users", person.id)


def test_who_cannot_be_told_apart_or_found_is_refused(mirror: Mirror, person: Person) -> None:
    other = person.tenant.create_user(mail="adele.quill@mail.contoso.example")
    mirror.sync()
    with pytest.raises(NotFound, match=f"pass the id: .*{other}"):
        found(mirror, "adele.quill@mail.contoso.example")
    with pytest.raises(NotFound, match="no user here has"):
        found(mirror, "nobody@contoso.example")
    with pytest.raises(NotFound, match="only be named by id"):
        found(mirror, "nobody@contoso.example", "groups")
    with pytest.raises(NotFound, match="no row or event mentions"):
        found(mirror, "00000000-1111-2222-3333-444444444444")


def test_who_is_not_known_yet_stays_away(mirror: Mirror, person: Person) -> None:
    new = "0bad0bad-1111-2222-3333-444444444444"
    mark = read_last_seq(mirror.database)
    done = erased(mirror, new, "users")
    assert (done.is_new, done.row_counts, read_last_seq(mirror.database)) == (True, {}, mark)
    person.tenant.create_user(id=new, displayName="Not Yet Known")
    person.tenant.add_member(person.groups[0], new)
    mirror.sync()
    assert_exact_without(mirror, person.tenant, new)
    assert find_traces(mirror.database, [new, "Not Yet Known"]) == {}


def test_who_is_left_in_events_only_is_erased_by_id(mirror: Mirror, person: Person) -> None:
    person.tenant.delete_user(person.id, permanently=True)
    mirror.sync()
    with mirror.database.open_transaction() as db:
        for statement in (
            "delete from directory.users where id = :id",
            "delete from directory.group_members where member_id = :id",
            "delete from directory.role_assignments where principal_id = :id",
        ):
            db.execute(text(statement), {"id": person.id})
    assert find_traces(mirror.database, person.names).keys() == {
        f"events.change_events.{name}" for name in ("object_id", "before", "after")
    }
    erased(mirror, person.id, batch=7)
    assert find_traces(mirror.database, person.names) == {}
    assert verify_connection(mirror.database).problems == []


def list_references() -> Iterator[tuple[Resource, Property, str]]:
    """Each column that names an object that can be erased, with each kind that it names."""
    for name, columns in ERASABLE_REFERENCES.items():
        for column in columns:
            yield from ((RESOURCES[name], column, of) for of in column.references if of in ERASABLE)


def insert_reference(db: sa.Connection, resource: Resource, column: Property, of: str) -> str:
    """Insert a row that names an object which no other row knows; return its id."""
    key = str(uuid.uuid4())
    values: dict[str, Any] = {one.name: str(uuid.uuid4()) for one in resource.key_columns}
    values |= {column.name: key, "row_hash": b"", get_kind_column(column): RESOURCES[of].graph_type}
    known = {name: values[name] for name in values if name in (*resource.column_names, "row_hash")}
    holes = ", ".join(f":{name}" for name in known)
    statement = f"""
        insert into directory.{resource.name}
               (connection_id, first_seen_at, changed_at, {", ".join(known)})
        values (1, now(), now(), {holes})
    """
    db.execute(text(statement), known)
    return key


def get_kind_column(column: Property) -> str:
    return f"{column.name.removesuffix('_id')}_type"


def test_what_only_other_objects_name_is_found_by_its_id(mirror: Mirror) -> None:
    with mirror.database.open_transaction() as db:
        for resource, column, of in list_references():
            key = insert_reference(db, resource, column, of)
            is_typed = get_kind_column(column) in resource.column_names
            right = of if is_typed else next(one for one in column.references if one in ERASABLE)
            assert find_referenced_resource(db, 1, key) == right, (resource, column.name, of)


def test_an_assignment_that_becomes_known_late_is_scrubbed_from_its_beginning(
    mirror: Mirror, person: Person
) -> None:
    """Its creation was dropped long ago, and the change after it names no principal."""
    lost = person.assignments[0]
    with mirror.database.open_transaction() as db:
        for statement in (
            "delete from directory.role_assignments where id = :id",
            """update events.change_events set change = 'updated', before = '{"condition": null}',
                      after = '{"condition": "x"}', changed = '{condition}'
                where object_id = :id and change = 'created'""",
        ):
            db.execute(text(statement), {"id": lost})
    erased(mirror, person.id, batch=7)
    assert find_traces(mirror.database, person.names) == {}


def test_an_interrupted_erasure_goes_on_where_it_was(mirror: Mirror, person: Person) -> None:
    target = found(mirror, person.id)
    say(mirror, person)
    batches = 0

    def die_later(_table: str, _rows: int) -> None:
        nonlocal batches
        batches += 1
        if batches == 3:
            raise SimulatedKill

    with pytest.raises(SimulatedKill):
        erase(mirror.database, target, die_later, batch_size=20)
    assert verify_connection(mirror.database).problems == [], "what is being erased is passed over"
    with mirror.database.open_transaction() as db:
        (one,) = list_erasures(db, 1)
    assert one.pending is not None
    assert 0 < one.pending.upto < (one.last_seq or 0)
    mirror.sync(full=True)
    assert_exact_without(mirror, person.tenant, person.id)
    mark = read_last_seq(mirror.database)
    with pytest.raises(StateConflict, match=r"not scrubbed yet.*goes on with it"):
        lifted(mirror, person.id)
    done = erase(mirror.database, found(mirror, person.id), silent, batch_size=20)
    assert (done.is_new, read_last_seq(mirror.database)) == (False, mark), "its end is told once"
    assert find_traces(mirror.database, person.names) == {}
    assert erased(mirror, person.id) == ErasureResult(done.placeholder), (
        "there is nothing left to do"
    )


def test_maintenance_finishes_what_was_interrupted(mirror: Mirror, person: Person) -> None:
    say(mirror, person)
    with pytest.raises(SimulatedKill):
        erase(mirror.database, found(mirror, person.id), die, batch_size=20)
    assert find_traces(mirror.database, person.names)
    run_maintenance(mirror.runtime)
    assert find_traces(mirror.database, person.names) == {}
    assert finish_erasures(mirror.database) == 0


def test_a_slice_that_was_under_way_brings_nobody_back(mirror: Mirror, person: Person) -> None:
    old = take_lease(mirror.database, 1, 600)
    erased(mirror, person.id)
    with pytest.raises(LeaseLost), lease.open_write_transaction(mirror.database, old):
        raise AssertionError("a zombie has written")


def test_a_person_erased_in_the_middle_of_a_walk_does_not_come_with_its_next_page(
    mirror: Mirror, person: Person
) -> None:
    mirror.tenant.update_user(person.id, jobTitle="On the way")
    done: list[ErasureResult] = []

    def meanwhile(request: Request) -> Response | None:
        if request.path.endswith("/users") and not done:
            done.append(erased(mirror, person.id))
        return None

    mirror.nango.before_graph = meanwhile
    with pytest.raises(LeaseLost):
        mirror.sync(full=True)
    assert done
    mirror.nango.before_graph = None
    assert mirror.sync(full=True).state is RunState.SUCCEEDED
    assert_exact_without(mirror, person.tenant, person.id)
    assert find_traces(mirror.database, person.names) == {}


def test_held_deletions_of_the_person_are_gone_and_the_others_stay(
    make_mirror: MakeMirror,
) -> None:
    tenant = Tenant(seed=4, users=200, groups=4)
    mirror = make_mirror(tenant)
    mirror.sync()
    gone = [tenant.users.id_at(index) for index in range(70)]
    for one in gone:
        tenant.delete_user(one)
    assert mirror.sync().state is RunState.HELD
    erased(mirror, gone[0])
    held = "select count(*) from sync.removals where held and resource = 'users'"
    assert fetch_scalar(mirror.database, held) == 69
    assert find_traces(mirror.database, [gone[0]]) == {}
    approve_held(mirror.database, 1)
    assert mirror.sync().state is RunState.SUCCEEDED
    assert_exact_without(mirror, tenant, gone[0])


def test_rejecting_held_deletions_does_not_bring_an_erased_person_back(
    make_mirror: MakeMirror,
) -> None:
    tenant = Tenant(seed=4, users=200, groups=4)
    mirror = make_mirror(tenant)
    mirror.sync()
    gone = [tenant.users.id_at(index) for index in range(70)]
    for one in gone:
        tenant.delete_user(one)
    mirror.sync()
    erased(mirror, gone[0])
    for one in gone:
        tenant.restore_user(one)
    reject_held(mirror.database, 1)
    assert mirror.sync().state is RunState.SUCCEEDED
    assert_exact_without(mirror, tenant, gone[0])


def test_a_group_is_erased_with_its_members(mirror: Mirror, person: Person) -> None:
    group = person.groups[1]
    members = [one.id for one in person.tenant.members_of(group)]
    assert members
    parent = person.tenant.groups.id_at(5)
    person.tenant.add_member(parent, group, "group")
    mirror.sync()
    done = erased(mirror, group)
    assert find_traces(mirror.database, [group]) == {}
    keys = {
        e["object_id"] for e in read_events(mirror.database) if done.placeholder in e["object_id"]
    }
    assert keys >= {done.placeholder, f"{parent}/{done.placeholder}"} | {
        f"{done.placeholder}/{m}" for m in members
    }
    for full in (False, True):
        person.tenant.touch_group(group)
        person.tenant.mutate(10)
        mirror.sync(full=full)
        assert_exact_without(mirror, person.tenant, group)
        assert find_traces(mirror.database, [group]) == {}
    lifted(mirror, group)
    mirror.sync(full=True)
    assert_exact(mirror.database, person.tenant)


def test_group_and_member_may_both_be_erased(mirror: Mirror, person: Person) -> None:
    user = erased(mirror, person.id)
    group = erased(mirror, person.groups[1])
    keys = {e["object_id"] for e in read_events(mirror.database)}
    assert f"{group.placeholder}/{user.placeholder}" in keys
    assert find_traces(mirror.database, [person.id, person.groups[1]]) == {}
    assert verify_connection(mirror.database).problems == []


def test_personal_sites_are_named_and_erased_by_id(
    mirror: Mirror, person: Person, nango: Nango
) -> None:
    site = person.tenant.create_site(
        displayName="Adele Vance-Quill",
        isPersonalSite=True,
        webUrl="https://contoso-my.sharepoint.example/personal/adele_vance_contoso_example",
    )
    key = site.rpartition(",")[2].lower()
    mirror.sync()
    target = found(mirror, person.id)
    done = erase(mirror.database, target, silent)
    assert find_related(mirror.database, target, done) == [(1, "sites", key)]
    assert found(mirror, site) == ErasureTarget(1, "sites", key)
    erased(mirror, site)
    assert find_traces(mirror.database, [*person.names, key, "adele_vance"]) == {}
    mirror.sync(full=True)
    assert_exact_without(mirror, person.tenant, person.id, key)


def test_rows_of_the_same_person_in_another_connection_are_named(
    mirror: Mirror, person: Person
) -> None:
    with mirror.database.open_transaction() as db:
        for statement in (
            """insert into sync.connections (nango_connection_id, provider_config_key, provider,
                                             tenant_id, status)
               select 'old', provider_config_key, provider, tenant_id, 'retired'
                 from sync.connections""",
            """insert into directory.users (connection_id, id, first_seen_at, changed_at)
               values (2, :id, now(), now())""",
        ):
            db.execute(text(statement), {"id": person.id} if ":id" in statement else {})
    target = found(mirror, person.id)
    done = erase(mirror.database, target, silent)
    assert find_related(mirror.database, target, done) == [(2, "users", person.id)]


def test_a_tenant_without_delta_passes_over_whom_it_erased(make_mirror: MakeMirror) -> None:
    tenant = Tenant(seed=6, users=50, groups=45)
    tenant.options.no_delta = True
    mirror = make_mirror(tenant)
    mirror.sync()
    user, group = tenant.users.id_at(3), tenant.groups.id_at(7)
    for index in range(4):
        tenant.add_member(tenant.groups.id_at(index), user)
    erased(mirror, user)
    erased(mirror, group)
    for _ in range(2):
        tenant.mutate(10)
        mirror.sync(full=True)
        assert_exact_without(mirror, tenant, user, group)
        assert find_traces(mirror.database, [user, group]) == {}


def test_memberships_read_again_do_not_bring_an_erased_member_back(
    mirror: Mirror, person: Person
) -> None:
    """A group that comes back has its members read; so has one that is kept apart."""
    erased(mirror, person.id)
    group = person.groups[1]
    person.tenant.delete_group(group)
    mirror.sync()
    person.tenant.restore_group(group)
    mirror.sync()
    mirror.sync()
    assert_exact_without(mirror, person.tenant, person.id)
    bad = {"id": 4_000_002}

    def spoil(request: Request) -> Response | None:
        if not request.path.endswith("groups/delta"):
            return None
        response = GraphService().handle(person.tenant, request)
        document = json.loads(response.body)
        for row in document["value"]:
            if row["id"] == group and "members@delta" in row:
                row["members@delta"].append(bad)
        return replace(response, body=json.dumps(document).encode())

    mirror.nango.before_graph = spoil
    person.tenant.touch_group(group)
    mirror.sync()
    assert fetch_scalar(mirror.database, "select count(*) from sync.quarantine") == 0
    assert_exact_without(mirror, person.tenant, person.id)
    assert find_traces(mirror.database, person.names) == {}


def test_what_cannot_be_read_about_an_erased_person_is_not_kept_apart(
    mirror: Mirror, person: Person
) -> None:
    erased(mirror, person.id)

    def misname(request: Request) -> Response | None:
        if not request.path.endswith(("/users", "/users/delta")):
            return None
        response = GraphService().handle(person.tenant, request)
        document = json.loads(response.body)
        for row in document["value"]:
            if row["id"] == person.id:
                row["@removed"] = 4_000_002
        return replace(response, body=json.dumps(document).encode())

    mirror.nango.before_graph = misname
    person.tenant.update_user(person.id, jobTitle="Odd")
    for full in (False, True):
        assert mirror.sync(full=full).state is RunState.SUCCEEDED
    assert fetch_scalar(mirror.database, "select count(*) from sync.quarantine") == 0
    assert find_traces(mirror.database, person.names) == {}


def test_the_same_person_has_another_digest_in_every_installation(
    mirror: Mirror, person: Person
) -> None:
    done = erased(mirror, person.id)
    with mirror.database.open_transaction() as db:
        assert get_digests(db).render_mark(person.id.upper()) == done.placeholder
        assert person.id in load_erased(db, 1)
        db.execute(text("delete from sync.service_state where name = 'erasure_key'"))
    with pytest.raises(Exception, match=r"erasure_key.*from a backup"):
        mirror.sync()


def test_an_erasure_survives_that_the_customer_connects_anew(
    mirror: Mirror, person: Person, nango: Nango
) -> None:
    erased(mirror, person.id)
    nango.remove_connection("contoso")
    discover(mirror.database, mirror.runtime.nango, mirror.runtime.settings)
    nango.add_connection("again", person.tenant)
    discover(mirror.database, mirror.runtime.nango, mirror.runtime.settings)
    report = run_slice(mirror.runtime, 2, trigger=RunTrigger.BACKFILL)
    assert "took its place" in (report.message or "")
    mirror.sync(full=True)
    assert_exact_without(mirror, person.tenant, person.id)


def test_a_large_history_is_scrubbed_in_batches(mirror: Mirror, person: Person) -> None:
    batches: list[int] = []
    target = found(mirror, person.id)
    erase(mirror.database, target, lambda _table, rows: batches.append(rows), batch_size=25)
    total = read_last_seq(mirror.database)
    assert len(batches) == -(-total // 25)
    assert batches == sorted(batches)
    assert events.BATCH_EVENTS == 20_000


# ---- sinks


@pytest.fixture
def sink(mirror: Mirror) -> int:
    """One that is not served: a test moves its position."""
    return add_sink(mirror)


def add_sink(mirror: Mirror, name: str = "feed", **more: Any) -> int:
    values = {"status": "active", "resources": None, "changes": None, **more}
    statement = text("""
        insert into events.sinks (name, kind, status, resources, changes)
        values (:name, 'redis-stream', :status, :resources, :changes) returning id
    """)
    with mirror.database.open_transaction() as db:
        return int(db.execute(statement, {"name": name, **values}).scalar_one())


def move(mirror: Mirror, sink: int, seq: int) -> None:
    statement = text("""
        insert into events.positions (sink_id, connection_id, seq) values (:sink, 1, :seq)
            on conflict (sink_id, connection_id) do update set seq = excluded.seq
    """)
    with mirror.database.open_transaction() as db:
        db.execute(statement, {"sink": sink, "seq": seq})


def test_deletions_keep_their_keys_until_every_sink_has_had_them(
    mirror: Mirror, person: Person, sink: int
) -> None:
    """The receiver has had the beginning of the person, and not that a membership ended since."""
    ended = f"{person.groups[0]}/{person.id}"
    (seq,) = [
        e["seq"]
        for e in read_events(mirror.database)
        if e["object_id"] == ended and e["change"] == "deleted"
    ]
    move(mirror, sink, seq - 1)
    done = erased(mirror, person.id)
    assert [one.name for one in done.sinks_behind] == ["feed"]
    left = [e for e in read_events(mirror.database) if person.id in e["object_id"]]
    assert {e["change"] for e in left} == {"deleted"}
    assert {e["object_id"] for e in left} == {
        ended,
        *(f"{group}/{person.id}" for group in person.groups[1:]),
        person.id,
    }
    assert all(e["before"] is None and e["after"] is None for e in left)
    assert find_traces(mirror.database, person.names).keys() == {
        "events.change_events.object_id",
        "sync.erasures.pending",
    }
    assert verify_connection(mirror.database).problems == []
    with pytest.raises(StateConflict, match=r"wait until sink 'feed' \(active\) has had"):
        lifted(mirror, person.id)
    run_maintenance(mirror.runtime)
    assert [e for e in read_events(mirror.database) if person.id in e["object_id"]] == left
    move(mirror, sink, read_last_seq(mirror.database))
    continue_erasure(mirror.database, found(mirror, person.id), done, silent)
    assert done.sinks_behind == []
    assert find_traces(mirror.database, person.names) == {}


def test_after_so_many_days_nobody_is_waited_for(mirror: Mirror, person: Person, sink: int) -> None:
    erased(mirror, person.id)
    older = "update sync.erasures set created_at = created_at - make_interval(days => :days)"
    sinks = "update events.sinks set created_at = '2000-01-01'"
    with mirror.database.open_transaction() as connection:
        connection.execute(text(sinks))
        connection.execute(text(older), {"days": SINK_WAIT_DAYS - 1})
    run_maintenance(mirror.runtime)
    assert find_traces(mirror.database, [person.id])
    with mirror.database.open_transaction() as db:
        db.execute(text(older), {"days": 2})
    run_maintenance(mirror.runtime)
    assert find_traces(mirror.database, person.names) == {}


@pytest.mark.parametrize(
    ("about", "waits"),
    [
        ({}, True),
        ({"status": "paused"}, True),
        ({"status": "disabled"}, False),
        ({"resources": ["group_members"]}, True),
        ({"resources": ["sites"]}, False),
        ({"changes": ["created", "updated"]}, False),
    ],
)
def test_only_sinks_that_tell_of_deletions_are_waited_for(
    mirror: Mirror, person: Person, about: dict[str, Any], waits: bool
) -> None:
    add_sink(mirror, **about)
    done = erased(mirror, person.id)
    assert bool(done.sinks_behind) is waits
    add_sink(mirror, "later")
    run_maintenance(mirror.runtime)
    assert bool(find_traces(mirror.database, [person.id])) is waits, "a later sink holds nothing up"


def test_a_snapshot_that_had_come_to_the_person_goes_on_behind_the_one_before(
    mirror: Mirror, person: Person, sink: int
) -> None:
    ids = fetch_scalar(
        mirror.database, "select array_agg(id::text order by id) from directory.users"
    )
    before = ids[ids.index(person.id) - 1]
    move(mirror, sink, read_last_seq(mirror.database))
    statement = "update events.positions set snapshot = cast(:snapshot as jsonb)"
    snapshot = {"resource": "users", "after": [person.id], "rows": 9}
    with mirror.database.open_transaction() as db:
        db.execute(text(statement), {"snapshot": json.dumps(snapshot)})
    erased(mirror, person.id)
    stored = fetch_scalar(mirror.database, "select snapshot from events.positions")
    assert stored == {**snapshot, "after": [before]}


def fold(told: list[dict[str, Any]]) -> dict[tuple[str, str], dict[str, Any]]:
    """What a consumer holds that passes over what was erased, as docs/erasure.md has it."""
    held: dict[tuple[str, str], dict[str, Any]] = {}
    for event in told:
        key = (event["resource"], event["object_id"])
        if ERASED_PREFIX in event["object_id"]:
            continue
        if event["change"] == "deleted":
            held.pop(key, None)
        else:
            held[key] = {**held.get(key, {}), **event["after"]}
    return held


@pytest.mark.parametrize("share", [0.0, 0.5, 0.8, 0.99, 1.0])
def test_a_consumer_ends_with_the_tables_wherever_it_stood_when_the_person_was_erased(
    mirror: Mirror, person: Person, sink: int, share: float
) -> None:
    had = read_events(mirror.database)
    had = had[: int(len(had) * share)]
    position = had[-1]["seq"] if had else 0
    move(mirror, sink, position)
    done = erased(mirror, person.id)
    person.tenant.mutate(20)
    mirror.sync()
    rest = read_events(mirror.database, after=position)
    if not share:
        move(mirror, sink, read_last_seq(mirror.database))
        continue_erasure(mirror.database, found(mirror, person.id), done, silent)
        rest = read_events(mirror.database)
    held = fold([*had, *rest])
    for resource in RESOURCES.values():
        keys = {key for of, key in held if of == resource.name}
        rows = list(read_live_rows(mirror.database, resource.name))
        assert keys == {"/".join(row[name] for name in resource.key) for row in rows}


def test_the_receiver_learns_whom_to_delete_and_then_the_key_goes(
    mirror: Mirror, person: Person, servers: Servers
) -> None:
    stream = f"erase:{uuid.uuid4().hex[:8]}"
    add_sink(mirror)
    setting = text(
        "update events.sinks set settings = jsonb_build_object('stream', cast(:stream as text))"
    )
    with mirror.database.open_transaction() as db:
        db.execute(setting, {"stream": stream})
    database = Database(mirror.database.url.render_as_string(hide_password=False), pool_size=3)
    settings = structs.replace(mirror.runtime.settings, redis_url=SecretStr(servers.redis_url))
    stop, relay = Event(), Relay(database, settings)
    thread = Thread(target=relay.run, args=(stop,))
    thread.start()
    target = found(mirror, person.id)
    try:
        reached = "select seq from events.positions"
        wait_until(lambda: fetch_scalar(database, reached) == read_last_seq(database))
        done = erase(database, target, silent)
        wait_until(lambda: not continue_erasure(database, target, done, silent))
    finally:
        stop.set()
        thread.join()
        database.close()
    assert find_traces(mirror.database, person.names) == {}
    client: Any = redis.Redis.from_url(servers.redis_url)
    told = [json.loads(entry[b"event"]) for _, entry in client.xrange(stream)]
    client.delete(stream)
    client.close()
    assert [int(event["sequence"]) for event in told] == list(range(1, len(told) + 1))
    assert told[-1]["subject"] == f"users/{person.id}"
    assert told[-1]["type"] == "tenantmirror.user.deleted"
    assert (told[-1]["data"]["before"], told[-1]["data"]["after"]) == (None, None)
    held: dict[str, Any] = {}
    for event in told:
        if event["data"]["after"] is None:
            held.pop(event["subject"], None)
        elif event["data"]["resource"] != "connection":
            held[event["subject"]] = event["data"]["after"]
    assert len(held) == sum(len(list(read_live_rows(mirror.database, name))) for name in RESOURCES)
    assert not [key for key in held if person.id in key]
