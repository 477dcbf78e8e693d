"""A re-walk tells how many rows the deltas had missed, and counts nothing else."""

from collections.abc import Callable
from typing import Any

from click.testing import CliRunner
from sqlalchemy import text

from models.resources import EDGES_IN
from models.run import RunState, RunTrigger
from sandbox.tenant import Request, Tenant
from tests.support.mirror import MakeMirror, Mirror, assert_exact, fetch_scalar
from worker.ops.cli.output import render_drift
from worker.ops.cli.status import status
from worker.sync.report import SyncReport
from worker.sync.run import run_slice

NOTHING = {"created": 0, "updated": 0, "deleted": 0, "restored": 0}
GROUPS_WITHOUT_DRIFT = dict.fromkeys(
    ("groups", *(edge.name for edge in EDGES_IN["groups"])), NOTHING
)


def untold(tenant: Tenant, act: Callable[[], object]) -> None:
    """Something happens in the tenant of which its delta rounds tell nothing."""
    marks = {name: len(tenant.change_log[name]) for name in ("users", "groups")}
    act()
    for name, mark in marks.items():
        for place in range(mark, len(tenant.change_log[name])):
            tenant.change_log[name][place] = (0, None)


def miss(mirror: Mirror) -> None:
    """A user is new, two are changed and one is gone, and no delta tells of it."""
    tenant = mirror.tenant

    def act() -> None:
        tenant.create_user(displayName="Unheard Of")
        for index in (3, 4):
            tenant.update_user(tenant.users.id_at(index), jobTitle="Changed in Silence")
        tenant.delete_user(a_member(tenant))

    untold(tenant, act)


def a_member(tenant: Tenant) -> str:
    """A user who is in some group."""
    found = tenant.members_of(tenant.groups.id_at(2))
    return next(one.id for one in found if one.type == "user")


def due(mirror: Mirror, *names: str) -> None:
    """The clock says that it is time for a full walk."""
    with mirror.database.open_transaction() as db:
        db.execute(
            text(
                "update sync.streams set due_at = clock_timestamp(),"
                " full_due_at = clock_timestamp() where resource = any(:names)"
            ),
            {"names": list(names)},
        )


def tick(mirror: Mirror, seconds: float | None = None) -> SyncReport:
    """A sync by the clock, to its end."""
    while True:
        report = run_slice(mirror.runtime, 1, trigger=RunTrigger.SCHEDULED, seconds=seconds)
        if report.state is not RunState.RUNNING:
            return report


def drift(mirror: Mirror, name: str = "users") -> Any:
    found = "select drift from sync.streams where resource = :name"
    return fetch_scalar(mirror.database, found, name=name)


def memberships(mirror: Mirror, user: str) -> int:
    live = "select count(*) from directory.group_members where member_id = :id"
    return int(fetch_scalar(mirror.database, f"{live} and deleted_at is null", id=user))


def test_a_walk_by_the_clock_counts_what_the_deltas_had_missed(mirror: Mirror) -> None:
    gone = memberships(mirror, a_member(mirror.tenant))
    assert gone
    miss(mirror)
    mirror.sync()
    assert drift(mirror) is None, "the first load measured nothing, and deltas count nothing"
    due(mirror, "users")
    report = tick(mirror)
    assert_exact(mirror.database, mirror.tenant)
    expected = {
        "users": {**NOTHING, "created": 1, "updated": 2, "deleted": 1},
        "group_members": {**NOTHING, "deleted": gone},
    }
    assert drift(mirror) == expected
    assert report.resources["users"]["drift"] == expected
    assert report.resources["groups"]["drift"] is None
    told = fetch_scalar(
        mirror.database,
        "select resources -> 'users' -> 'drift' from sync.runs order by id desc limit 1",
    )
    assert told == expected


def test_what_the_deltas_tell_in_time_is_no_drift(mirror: Mirror) -> None:
    tenant = mirror.tenant
    tenant.create_user(displayName="Told Of")
    tenant.delete_user(tenant.users.id_at(7))
    tenant.remove_member(tenant.groups.id_at(2), tenant.members_of(tenant.groups.id_at(2))[0].id)
    due(mirror, "users", "groups")
    tick(mirror)
    assert_exact(mirror.database, tenant)
    assert drift(mirror) == {"users": NOTHING}
    assert drift(mirror, "groups") == GROUPS_WITHOUT_DRIFT


def test_missed_memberships_are_counted_by_themselves(mirror: Mirror) -> None:
    tenant = mirror.tenant
    group, other = tenant.groups.id_at(2), tenant.groups.id_at(3)
    lost = tenant.members_of(group)[0].id
    won = [tenant.users.id_at(index) for index in range(40, 60)]
    strangers = [one for one in won if one not in {m.id for m in tenant.members_of(other)}][:3]

    def act() -> None:
        tenant.remove_member(group, lost)
        for one in strangers:
            tenant.add_member(other, one)

    untold(tenant, act)
    due(mirror, "groups")
    tick(mirror)
    assert_exact(mirror.database, tenant)
    assert drift(mirror, "groups") == {
        **GROUPS_WITHOUT_DRIFT,
        "group_members": {**NOTHING, "created": 3, "deleted": 1},
    }


def test_a_property_that_no_page_carries_any_more_is_counted(mirror: Mirror) -> None:
    """A value that Graph never sends must have gone in silence: the walk clears it at its end."""
    never_sent = "update directory.groups set classification = 'Stale', row_hash = null"
    with mirror.database.open_transaction() as db:
        altered = db.execute(text(f"{never_sent} where classification is null")).rowcount
    assert altered
    due(mirror, "groups")
    tick(mirror)
    assert drift(mirror, "groups")["groups"] == {**NOTHING, "updated": altered}


def test_the_count_adds_up_over_slices_and_restarts(make_mirror: MakeMirror) -> None:
    tenant = Tenant(seed=41, users=2500, groups=40)
    tenant.options.delta_page_size = 7
    mirror = make_mirror(tenant)
    mirror.sync()

    def act() -> None:
        for index in (1, 1200, 2400):
            tenant.update_user(tenant.users.id_at(index), jobTitle="Changed in Silence")
        for index in (1, 20, 38):
            tenant.update_group(tenant.groups.id_at(index), displayName="Changed in Silence")

    untold(tenant, act)
    spent = 0

    def expire(request: Request) -> None:
        nonlocal spent
        if not spent and "skiptoken" in request.query and request.path.endswith("/users"):
            spent += 1
            tenant.expire_page_tokens()

    mirror.nango.before_graph = expire
    due(mirror, "users", "groups")
    tick(mirror, seconds=0.0)
    assert spent == 1
    assert_exact(mirror.database, tenant)
    assert drift(mirror)["users"] == {**NOTHING, "updated": 3}
    assert drift(mirror, "groups")["groups"] == {**NOTHING, "updated": 3}


def test_a_walk_that_stands_in_for_a_lost_cursor_measures_nothing(mirror: Mirror) -> None:
    due(mirror, "users", "groups")
    tick(mirror)
    assert drift(mirror) == {"users": NOTHING}
    mirror.tenant.expire_delta_tokens()
    miss(mirror)
    mirror.sync()
    assert_exact(mirror.database, mirror.tenant)
    assert drift(mirror) is None
    assert drift(mirror, "groups") is None


def test_a_walk_because_of_a_cursor_that_was_given_up_measures_nothing(mirror: Mirror) -> None:
    due(mirror, "users")
    with mirror.database.open_transaction() as db:
        db.execute(text("update sync.streams set select_hash = null"))
    tick(mirror)
    assert drift(mirror) is None


def test_a_full_sync_by_hand_measures_too(mirror: Mirror) -> None:
    miss(mirror)
    report = mirror.sync("users", full=True)
    assert report.resources["users"]["drift"]["users"]["created"] == 1
    assert mirror.sync().resources["users"]["drift"] is None, "each walk is told of once"
    assert drift(mirror)["users"]["created"] == 1


def test_a_walk_by_the_clock_costs_its_pages_and_a_token_more_than_a_tick(mirror: Mirror) -> None:
    mirror.sync()
    due(mirror, "users")
    mirror.take_call_count()
    tick(mirror)
    assert mirror.take_call_count() == 1 + 1 + 1 + 1, "opening with the round, token, list, round"


def test_status_of_a_connection_tells_what_was_missed(mirror: Mirror, database_url: str) -> None:
    miss(mirror)
    mirror.sync("users", full=True)
    environment = {"DATABASE_URL": database_url}
    shown = CliRunner().invoke(status, ["1"], env=environment, catch_exceptions=False)
    assert "users 1 created" in shown.output
    assert render_drift({"users": NOTHING}) == "nothing"
    plain = CliRunner().invoke(status, ["--json", "1"], env=environment, catch_exceptions=False)
    assert '"created": 1' in plain.output
