"""A connection may be authorised for another tenant at any moment: nothing of that one is used."""

from collections.abc import Callable, Iterator

import pytest
from sqlalchemy import text

from models.resources import RESOURCES
from models.run import RunState
from sandbox.tenant import Request, Tenant
from tests.support.mirror import (
    MakeMirror,
    Mirror,
    assert_exact,
    fetch_scalar,
    read_events,
    read_last_seq,
)
from worker.sync.connections.discover import discover
from worker.sync.report import SyncReport

PAGES = {"max_page_size": 20, "delta_page_size": 15, "site_page_size": 4, "role_page_size": 5}
KINDS: dict[str, dict[str, object]] = {
    "usual": {},
    "without delta": {"no_delta": True, "requires_role_filter": True},
    "without $batch": {"batch_error_status": 400},
}
STRIDE = {"without $batch": 11, "without delta": 2}
"""Not at every call, where so many are alike."""
MOST_CALLS = 300
"""No sync of these small tenants takes as many."""
Prepare = Callable[[Mirror], None]


class Swap:
    """Gives a connection to a stranger ahead of one of the calls that go to Graph."""

    def __init__(self, mirror: Mirror, at: int, **knobs: object) -> None:
        self.mirror, self.at, self.calls = mirror, at, 0
        self.stranger = a_tenant(900 + at, **knobs)
        self.mark = read_last_seq(mirror.database, mirror.connection_id)
        self._connection = mirror.nango.connections[-1]
        mirror.nango.before_response = self._see

    def _see(self, request: Request) -> None:
        if request.path.startswith("/proxy/"):
            if self.calls == self.at:
                self._connection.tenant = self.stranger
            self.calls += 1

    def sync(self, *, full: bool = False) -> SyncReport | None:
        """The report of a sync in which it happens; None where that was over before."""
        report = self.mirror.sync(full=full)
        self.mirror.nango.before_response = None
        self._connection.tenant = self.mirror.tenant
        self._left_nothing()
        if self.calls <= self.at:
            assert report.state is RunState.SUCCEEDED
            return None
        return report

    def _left_nothing(self) -> None:
        """No row, no event and no deletion came of it."""
        tenant, number = self.mirror.tenant, self.mirror.connection_id
        assert not stored(self.mirror) & ids(self.stranger)
        live = ids(tenant)
        for event in read_events(self.mirror.database, number, self.mark):
            told = set(event["object_id"].split("/"))
            assert not told & ids(self.stranger)
            if event["change"] == "deleted" and len(told) == 1:
                assert not told & live, "it is still there"


def stored(mirror: Mirror) -> set[str]:
    """The ids of all rows of a connection, of deleted ones as well."""
    found: set[str] = set()
    with mirror.database.open_transaction() as db:
        for name, resource in RESOURCES.items():
            for key in resource.key:
                statement = f"select {key} from directory.{name} where connection_id = :id"
                rows = db.execute(text(statement), {"id": mirror.connection_id})
                found |= {str(one) for (one,) in rows}
    return found


def ids(tenant: Tenant) -> set[str]:
    """Of everything that the tenant has now; built-in role definitions are the same everywhere."""
    found = {str(one["id"]) for name in ("users", "groups") for one in tenant.iterate_live(name)}
    found |= {str(one["id"]) for one in tenant.iterate_live("role_assignments")}
    return found | {str(one["id"]).rpartition(",")[2] for one in tenant.iterate_live("sites")}


def a_tenant(seed: int, **knobs: object) -> Tenant:
    tenant = Tenant(seed=seed, users=45, groups=6, sites=7)
    for name, value in {**PAGES, **knobs}.items():
        setattr(tenant.options, name, value)
    return tenant


def is_broken(mirror: Mirror, report: SyncReport) -> bool:
    status = "select status from sync.connections where id = :id"
    found = fetch_scalar(mirror.database, status, id=mirror.connection_id)
    told = "another Microsoft tenant" in (report.message or "")
    return report.state is RunState.FAILED and told and found == "broken"


@pytest.mark.parametrize("kind", KINDS)
def test_a_first_load_takes_nothing_of_another_tenant(make_mirror: MakeMirror, kind: str) -> None:
    """Each try is a customer of its own, whose connection changes hands at another call."""
    mirror = make_mirror(a_tenant(1, **KINDS[kind]))
    knows_tenant_at = 2 if kind == "without $batch" else 1
    for at in range(knows_tenant_at, MOST_CALLS, STRIDE.get(kind, 1)):
        mirror.tenant = a_tenant(100 + at, **KINDS[kind])
        mirror.nango.add_connection(f"contoso-{at}", mirror.tenant)
        discover(mirror.runtime.database, mirror.runtime.nango, mirror.runtime.settings)
        latest = "select max(id) from sync.connections"
        mirror.connection_id = fetch_scalar(mirror.database, latest)
        report = Swap(mirror, at, **KINDS[kind]).sync()
        if report is None:
            assert at > 5
            return
        assert is_broken(mirror, report)
        if at % 4 == 0:
            assert mirror.sync().state is RunState.SUCCEEDED
            assert_exact(mirror.database, mirror.tenant, mirror.connection_id)
    pytest.fail("a first load has no end")


def swapped_at_every_call(
    mirror: Mirror, prepare: Prepare, *, full: bool = False, stride: int = 1
) -> Iterator[int]:
    """Sync with the swap at each call in turn, and once more as if nothing had been."""
    for at in range(0, MOST_CALLS, stride):
        prepare(mirror)
        report = Swap(mirror, at).sync(full=full)
        if report is None:
            assert at > 1
            return
        assert is_broken(mirror, report)
        yield at
        mirror.nango.calls.reset()
        assert mirror.sync().state is RunState.SUCCEEDED
        assert_exact(mirror.database, mirror.tenant, mirror.connection_id)
    pytest.fail("a sync has no end")


def changes(mirror: Mirror) -> None:
    """More than one page of a round."""
    tenant = mirror.tenant
    for user in list(tenant.iterate_live("users"))[:16]:
        tenant.update_user(str(user["id"]), displayName=f"{user['displayName']} again")
    tenant.create_user()


def departures(mirror: Mirror) -> None:
    """What a complete walk does not see, so that it is asked for by id; others come instead."""
    changes(mirror)
    tenant = mirror.tenant
    tenant.delete_site(str(next(tenant.iterate_live("sites"))["id"]))
    tenant.create_site()
    assignment, role = (
        next(tenant.iterate_live("role_assignments")),
        next(tenant.iterate_live("role_definitions")),
    )
    tenant.unassign_role(str(assignment["id"]))
    tenant.assign_role(str(role["id"]), tenant.create_user())


def returns(mirror: Mirror) -> None:
    """Somebody whose memberships are asked for again."""
    tenant = mirror.tenant
    user = next(
        member.id
        for group in tenant.iterate_live("groups")
        for member in tenant.members_of(str(group["id"]))
        if member.type == "user"
    )
    tenant.delete_user(user)
    assert mirror.sync().state is RunState.SUCCEEDED
    tenant.restore_user(user)


@pytest.mark.parametrize("prepare", [changes, returns])
def test_a_round_takes_nothing_of_another_tenant_and_keeps_its_cursors(
    make_mirror: MakeMirror, prepare: Prepare
) -> None:
    mirror = make_mirror(a_tenant(1))
    mirror.sync()
    for _ in swapped_at_every_call(mirror, prepare):
        mirror.nango.calls.reset()
        assert mirror.sync().state is RunState.SUCCEEDED
        assert mirror.nango.calls.graph["users"] == 0, "no list was read"
        assert mirror.nango.calls.graph["groups/delta"] <= 3


@pytest.mark.parametrize("kind", KINDS)
def test_a_full_walk_takes_and_deletes_nothing_for_another_tenant(
    make_mirror: MakeMirror, kind: str
) -> None:
    mirror = make_mirror(a_tenant(1, **KINDS[kind]))
    mirror.sync()
    for _ in swapped_at_every_call(mirror, departures, full=True, stride=STRIDE.get(kind, 1)):
        pass
