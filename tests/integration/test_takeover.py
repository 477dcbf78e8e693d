"""A tenant is mirrored by one row for ever: who connects anew gets the row that was retired."""

import random
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import text

from models.run import RunState, RunTrigger
from sandbox.tenant import Nango, Tenant
from tests.support.leases import take_lease
from tests.support.mirror import (
    Mirror,
    assert_exact,
    fetch_scalar,
    read_events,
    read_last_seq,
    verify_connection,
)
from worker.core.errors import LeaseLost, StateConflict
from worker.store import lease
from worker.store.state.connections import Connection, list_all_connections
from worker.store.state.forget import forget_connection
from worker.sync.connections.discover import Discovery, discover
from worker.sync.report import SyncReport
from worker.sync.run import run_slice
from worker.sync.runtime import Runtime

pytestmark = pytest.mark.first_resources


def look(runtime: Runtime) -> Discovery:
    return discover(runtime.database, runtime.nango, runtime.settings)


def known(runtime: Runtime) -> dict[int, Connection]:
    with runtime.database.open_transaction() as db:
        return {one.id: one for one in list_all_connections(db)}


def statuses(runtime: Runtime) -> list[str]:
    return [one.status.value for one in known(runtime).values()]


def told(runtime: Runtime, connection_id: int) -> str:
    """What the events say about the connection itself."""
    statement = (
        "select string_agg(change, ',' order by seq) from events.change_events"
        " where resource = 'connection' and connection_id = :id"
    )
    return str(fetch_scalar(runtime.database, statement, id=connection_id))


def reconnect(mirror: Mirror, name: str = "contoso-again") -> None:
    """The customer deletes his connection and makes another; both are noticed."""
    mirror.nango.remove_connection("contoso")
    look(mirror.runtime)
    mirror.nango.add_connection(name, mirror.tenant, provider_config_key="entra-new")
    look(mirror.runtime)


def first_slice(runtime: Runtime, connection_id: int) -> SyncReport:
    return run_slice(runtime, connection_id, trigger=RunTrigger.BACKFILL)


def test_who_connects_anew_gets_the_row_and_its_history(mirror: Mirror) -> None:
    reconnect(mirror)
    mark = read_last_seq(mirror.database)
    report = first_slice(mirror.runtime, 2)
    assert report.state is RunState.FAILED
    assert report.message == "connection 1 has this tenant's history and took its place"
    found = known(mirror.runtime)
    assert (found[1].label, found[1].status) == ("entra-new/contoso-again", "active")
    assert (found[1].status_reason, found[1].broken_count) == (None, 0)
    assert (found[2].status, found[2].tenant_id) == ("retired", None)
    assert found[2].status_reason == report.message
    assert (told(mirror.runtime, 1), told(mirror.runtime, 2)) == (
        "added,removed,added",
        "added,removed",
    )
    unfinished = "select count(*) from sync.runs where state = 'running' or finished_at is null"
    assert fetch_scalar(mirror.database, unfinished) == 0
    due = "select id from sync.connections where due_at <= clock_timestamp()"
    assert fetch_scalar(mirror.database, due) == 1
    assert mirror.sync().state is RunState.SUCCEEDED
    assert read_events(mirror.database, after=mark) == []
    assert_exact(mirror.database, mirror.tenant)


def test_what_changed_meanwhile_is_told_and_nothing_else(mirror: Mirror) -> None:
    mark = read_last_seq(mirror.database)
    mirror.nango.remove_connection("contoso")
    look(mirror.runtime)
    mirror.tenant.create_user(displayName="New")
    mirror.tenant.delete_user(mirror.tenant.users.id_at(3))
    mirror.tenant.update_user(mirror.tenant.users.id_at(5), jobTitle="Clerk")
    mirror.nango.add_connection("again", mirror.tenant)
    look(mirror.runtime)
    first_slice(mirror.runtime, 2)
    assert first_slice(mirror.runtime, 1).state is RunState.SUCCEEDED
    users = [one for one in read_events(mirror.database, after=mark) if one["resource"] == "users"]
    assert Counter(one["change"] for one in users) == {"created": 1, "deleted": 1, "updated": 1}
    assert not any(one["initial"] for one in users)
    assert_exact(mirror.database, mirror.tenant)


def test_a_half_read_walk_and_held_deletions_begin_anew(mirror: Mirror) -> None:
    """Evidence that the old connection gathered proves nothing about what the new one sees."""
    mirror.tenant.options.delta_page_size = 2
    for index in range(55):
        mirror.tenant.delete_user(mirror.tenant.users.id_at(index))
    assert mirror.sync().state is RunState.HELD
    with mirror.database.open_transaction() as connection:
        connection.execute(text("update sync.streams set full_due_at = now(), due_at = now()"))
    run_slice(mirror.runtime, 1, trigger=RunTrigger.SCHEDULED, seconds=0.0)
    listing = "select count(*) from sync.streams where phase = 'listing'"
    assert fetch_scalar(mirror.database, listing) > 0
    with mirror.database.open_transaction() as db:
        stale = "insert into sync.candidates (connection_id, resource, key, walk_id)"
        db.execute(text(f"{stale} values (1, 'groups', 'k', 9)"))
    reconnect(mirror)
    first_slice(mirror.runtime, 2)
    for table in ("seen", "removals", "candidates"):
        left = f"select count(*) from sync.{table} where connection_id = 1"
        assert fetch_scalar(mirror.database, left) == 0
    links = "select count(coalesce(next_link, delta_link)) from sync.streams"
    assert fetch_scalar(mirror.database, f"{links} where connection_id = 1") == 0
    mirror.nango.log.clear()
    assert mirror.sync().state is RunState.HELD, "the walk found the same, and holds it again"
    asked = {
        one.request.headers["connection-id"]
        for one in mirror.nango.log
        if one.request.path.startswith("/proxy")
    }
    assert asked == {"contoso-again"}


def test_what_was_refused_to_the_old_connection_is_asked_for_at_once(
    mirror: Mirror, nango: Nango
) -> None:
    nango.connections[0].refused_resources = {"sites", "groups"}
    assert mirror.sync(full=True).state is RunState.PARTIAL
    reconnect(mirror)
    first_slice(mirror.runtime, 2)
    assert first_slice(mirror.runtime, 1).state is RunState.SUCCEEDED
    assert_exact(mirror.database, mirror.tenant)


def test_an_address_that_returns_after_weeks_is_walked_without_invented_events(
    mirror: Mirror, nango: Nango
) -> None:
    nango.remove_connection("contoso")
    look(mirror.runtime)
    with mirror.database.open_transaction() as db:
        db.execute(text("update sync.streams set delta_link_at = now() - interval '30 days'"))
    walks = fetch_scalar(mirror.database, "select sum(walk_id) from sync.streams")
    mark = read_last_seq(mirror.database)
    nango.add_connection("contoso", mirror.tenant)
    assert look(mirror.runtime).returned == ["entra/contoso"]
    assert mirror.sync().state is RunState.SUCCEEDED
    assert fetch_scalar(mirror.database, "select sum(walk_id) from sync.streams") > walks
    assert read_events(mirror.database, after=mark) == []
    assert_exact(mirror.database, mirror.tenant)


@pytest.mark.parametrize("order", [(2, 3), (3, 2)])
def test_of_two_new_connections_one_takes_over_and_the_other_is_a_duplicate(
    mirror: Mirror, order: tuple[int, int]
) -> None:
    reconnect(mirror)
    mirror.nango.add_connection("third", mirror.tenant)
    look(mirror.runtime)
    for number in order:
        first_slice(mirror.runtime, number)
    found = known(mirror.runtime)
    assert found[1].status == "active"
    assert found[order[0]].status == "retired"
    assert found[order[1]].status == "duplicate"
    assert found[1].label in ("entra-new/contoso-again", "entra/third")


def test_two_new_connections_at_the_same_time_are_still_one_and_one(mirror: Mirror) -> None:
    reconnect(mirror)
    mirror.nango.add_connection("third", mirror.tenant)
    look(mirror.runtime)
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda number: first_slice(mirror.runtime, number), (2, 3)))
    assert sorted(statuses(mirror.runtime)) == ["active", "duplicate", "retired"]
    assert known(mirror.runtime)[1].status == "active"


def test_two_first_connections_at_the_same_time_mirror_a_tenant_once(
    runtime: Runtime, nango: Nango
) -> None:
    tenant = Tenant(seed=4, users=5, groups=1)
    for name in ("a", "b"):
        nango.add_connection(name, tenant)
    look(runtime)
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda number: first_slice(runtime, number), (1, 2)))
    assert sorted(statuses(runtime)) == ["active", "duplicate"]


def test_a_duplicate_takes_over_by_itself_once_the_other_is_gone(mirror: Mirror) -> None:
    for name in ("second", "third"):
        mirror.nango.add_connection(name, mirror.tenant)
    look(mirror.runtime)
    for number in (2, 3):
        assert first_slice(mirror.runtime, number).state is RunState.FAILED
    assert look(mirror.runtime).woken == [], "as long as there is the first"
    mark = read_last_seq(mirror.database)
    mirror.nango.remove_connection("contoso")
    found = look(mirror.runtime)
    assert (found.retired, found.woken) == (["entra/contoso"], ["entra/second"])
    first_slice(mirror.runtime, 2)
    assert [one.status.value for one in known(mirror.runtime).values()] == [
        "active",
        "retired",
        "duplicate",
    ]
    assert known(mirror.runtime)[1].label == "entra/second"
    assert mirror.sync().state is RunState.SUCCEEDED
    assert read_events(mirror.database, after=mark) == []
    assert look(mirror.runtime).woken == []


def test_a_duplicate_without_a_predecessor_mirrors_the_tenant_itself(mirror: Mirror) -> None:
    mirror.nango.add_connection("second", mirror.tenant)
    look(mirror.runtime)
    first_slice(mirror.runtime, 2)
    mirror.nango.remove_connection("contoso")
    look(mirror.runtime)
    forget_connection(mirror.database, 1, lambda _table, _rows: None)
    assert first_slice(mirror.runtime, 2).state is RunState.SUCCEEDED
    assert_exact(mirror.database, mirror.tenant, 2)


def test_a_paused_connection_keeps_its_tenant(mirror: Mirror, nango: Nango) -> None:
    nango.connections[0].metadata = {"tenant_mirror": {"enabled": False}}
    nango.add_connection("second", mirror.tenant)
    look(mirror.runtime)
    report = first_slice(mirror.runtime, 2)
    assert "is paused" in (report.message or "")
    assert statuses(mirror.runtime) == ["paused", "duplicate"]
    assert look(mirror.runtime).woken == []


def test_an_older_connection_that_never_mirrored_yields_to_a_younger_one(
    runtime: Runtime, nango: Nango
) -> None:
    tenant = Tenant(seed=4, users=5, groups=1)
    first = nango.add_connection("a", tenant, metadata={"tenant_mirror": {"enabled": False}})
    nango.add_connection("b", tenant)
    look(runtime)
    first_slice(runtime, 2)
    first.metadata = None
    look(runtime)
    first_slice(runtime, 1)
    assert statuses(runtime) == ["duplicate", "active"]


def test_a_connection_with_its_own_history_keeps_its_own_row(mirror: Mirror) -> None:
    mirror.nango.remove_connection("contoso")
    look(mirror.runtime)
    with mirror.database.open_transaction() as connection:
        hide = "update sync.connections set tenant_id = gen_random_uuid() where id = 1"
        connection.execute(text(hide))
    mirror.nango.add_connection("second", mirror.tenant)
    look(mirror.runtime)
    first_slice(mirror.runtime, 2)
    with mirror.database.open_transaction() as db:
        show = (
            "update sync.connections c set tenant_id = d.tenant_id"
            " from sync.connections d where c.id = 1 and d.id = 2"
        )
        db.execute(text(show))
    mirror.connection_id = 2
    assert mirror.sync().state is RunState.SUCCEEDED
    assert statuses(mirror.runtime) == ["retired", "active"]


def test_a_retired_connection_without_history_is_nobodys_predecessor(mirror: Mirror) -> None:
    """A duplicate knows its tenant too, and may have been retired last."""
    mirror.nango.add_connection("second", mirror.tenant)
    look(mirror.runtime)
    first_slice(mirror.runtime, 2)
    for name in ("contoso", "second"):
        mirror.nango.remove_connection(name)
        look(mirror.runtime)
    mirror.nango.add_connection("third", mirror.tenant)
    look(mirror.runtime)
    first_slice(mirror.runtime, 3)
    assert statuses(mirror.runtime) == ["active", "retired", "retired"]


def test_a_shared_address_comes_back_to_the_row_with_the_history(mirror: Mirror) -> None:
    reconnect(mirror)
    first_slice(mirror.runtime, 2)
    mirror.nango.remove_connection("contoso-again", "entra-new")
    look(mirror.runtime)
    assert statuses(mirror.runtime) == ["retired", "retired"]
    mirror.nango.add_connection("contoso-again", mirror.tenant, provider_config_key="entra-new")
    assert look(mirror.runtime).returned == ["entra-new/contoso-again"]
    assert statuses(mirror.runtime) == ["active", "retired"]
    assert mirror.sync().state is RunState.SUCCEEDED
    assert_exact(mirror.database, mirror.tenant)


def test_the_old_address_may_return_when_its_row_has_moved_on(mirror: Mirror) -> None:
    reconnect(mirror)
    first_slice(mirror.runtime, 2)
    mirror.nango.add_connection("contoso", mirror.tenant)
    assert look(mirror.runtime).enrolled == ["entra/contoso"]
    first_slice(mirror.runtime, 3)
    assert statuses(mirror.runtime) == ["active", "retired", "duplicate"]


def test_settings_travel_with_the_new_connection(mirror: Mirror, nango: Nango) -> None:
    nango.remove_connection("contoso")
    look(mirror.runtime)
    metadata = {"tenant_mirror": {"delta_seconds": 900, "colour": "blue"}}
    nango.add_connection("again", mirror.tenant, metadata=metadata)
    look(mirror.runtime)
    first_slice(mirror.runtime, 2)
    heir = known(mirror.runtime)[1]
    assert heir.settings == metadata
    assert "colour" in (heir.settings_problem or "")


def test_who_held_the_old_connections_lease_cannot_write(mirror: Mirror) -> None:
    old = take_lease(mirror.database, 1, 600)
    reconnect(mirror)
    first_slice(mirror.runtime, 2)
    with pytest.raises(LeaseLost), lease.open_write_transaction(mirror.database, old):
        raise AssertionError("a zombie has written")


def test_a_resync_that_was_asked_of_the_new_connection_is_crossed_off(mirror: Mirror) -> None:
    reconnect(mirror)
    with mirror.database.open_transaction() as db:
        db.execute(text("update sync.connections set requested_at = now() where id = 2"))
    first_slice(mirror.runtime, 2)
    assert known(mirror.runtime)[2].requested_at is None
    with pytest.raises(StateConflict, match="connection 1 has this tenant's history"):
        first_slice(mirror.runtime, 2)


class Customer:
    """Connects, disconnects, changes, and is discovered and synced, in any order."""

    def __init__(self, runtime: Runtime, nango: Nango, seed: int) -> None:
        self.runtime, self.nango, self.random = runtime, nango, random.Random(seed)
        self.tenant = Tenant(seed=seed, users=12, groups=3, sites=2)
        self.made = 0

    def connect(self) -> None:
        self.made += 1
        self.nango.add_connection(f"c{self.made % 4}-{self.made}", self.tenant)

    def connect_again(self) -> None:
        """Under a name that was used before."""
        gone = {one.nango_connection_id for one in known(self.runtime).values()} - self.names()
        if gone:
            self.nango.add_connection(self.random.choice(sorted(gone)), self.tenant)

    def names(self) -> set[str]:
        return {one.connection_id for one in self.nango.connections}

    def disconnect(self) -> None:
        if self.names():
            self.nango.remove_connection(self.random.choice(sorted(self.names())))

    def change(self) -> None:
        self.tenant.mutate(3, self.random)

    def look(self) -> None:
        look(self.runtime)

    def sync(self) -> None:
        for one in known(self.runtime).values():
            if one.status.value in ("active", "broken"):
                run_slice(self.runtime, one.id, trigger=RunTrigger.SCHEDULED, seconds=0.0)

    def any_day(self) -> None:
        deeds = (self.connect, self.connect_again, self.disconnect, self.change)
        self.random.choice((*deeds, self.look, self.look, self.sync, self.sync))()


@pytest.mark.parametrize("seed", range(3))
def test_whatever_the_customer_does_one_row_has_the_whole_history(
    runtime: Runtime, nango: Nango, seed: int
) -> None:
    customer = Customer(runtime, nango, seed)
    customer.connect()
    for _ in range(40):
        customer.any_day()
    if not customer.names():
        customer.connect()
    for _ in range(3):
        customer.look()
        customer.sync()
    found = known(runtime)
    (heir,) = (one for one in found.values() if one.status.value == "active")
    Mirror(runtime, nango, customer.tenant, heir.id).sync(full=True)
    assert_exact(runtime.database, customer.tenant, heir.id)
    told_of = "select array_agg(distinct connection_id) from events.change_events"
    assert fetch_scalar(runtime.database, f"{told_of} where resource <> 'connection'") == [heir.id]
    assert all(verify_connection(runtime.database, number).problems == [] for number in found)
    running = "select count(*) from sync.runs r join sync.connections c on c.id = r.connection_id"
    assert (
        fetch_scalar(runtime.database, f"{running} where r.state = 'running' and c.id <> {heir.id}")
        == 0
    )
