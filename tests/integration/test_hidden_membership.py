"""A group with hidden membership that suddenly shows no member is held, not emptied."""

from dataclasses import replace
from typing import Any

import pytest

from models.run import RunState
from sandbox.tenant import Request, Response, Tenant
from sandbox.tenant.graph.service import GraphService
from tests.support.mirror import (
    MakeMirror,
    MakeSynced,
    Mirror,
    assert_exact,
    fetch_scalar,
    read_events,
    read_last_seq,
)
from worker.sync.finish.approve import approve_held, reject_held

pytestmark = pytest.mark.first_resources

HIDDEN = "HiddenMembership"


class World:
    """A mirrored tenant whose only group with hidden membership has three members."""

    def __init__(self, mirror: Mirror) -> None:
        self.mirror, self.tenant = mirror, mirror.tenant
        for other in self.tenant.iterate_live("groups"):
            if other.get("visibility") == HIDDEN:
                self.tenant.delete_group(other["id"])
        self.group = self.tenant.create_group(visibility=HIDDEN, displayName="Quiet")
        self.users = [self.tenant.users.id_at(index) for index in (1, 2, 3)]
        self.add()
        assert mirror.sync().state is RunState.SUCCEEDED

    def add(self) -> None:
        for user in self.users:
            self.tenant.add_member(self.group, user)

    def empty(self) -> None:
        for user in self.users:
            self.tenant.remove_member(self.group, user)

    def live(self, group: str | None = None) -> int:
        count = "select count(*) from directory.group_members where group_id = :id"
        found = fetch_scalar(
            self.mirror.database, f"{count} and deleted_at is null", id=group or self.group
        )
        return int(found)

    def held(self) -> int:
        return int(
            fetch_scalar(self.mirror.database, "select count(*) from sync.removals where held")
        )

    def stream(self, column: str) -> Any:
        found = f"select {column} from sync.streams where resource = 'groups'"
        return fetch_scalar(self.mirror.database, found)


@pytest.fixture
def world(make_synced: MakeSynced) -> World:
    return World(make_synced(seed=51, users=80, groups=12, sites=2))


def open_group(world: World) -> str:
    """A group with members that hides nothing."""
    tenant = world.tenant
    rows = [one for one in tenant.iterate_live("groups") if one.get("visibility") != HIDDEN]
    return str(next(one["id"] for one in rows if len(tenant.members_of(one["id"])) > 1))


# ---- a round


def test_a_round_that_empties_a_hidden_group_is_held_and_the_rest_is_applied(world: World) -> None:
    other = open_group(world)
    leaving = world.tenant.members_of(other)[0].id
    before = world.live(other)
    world.empty()
    world.tenant.remove_member(other, leaving)
    report = world.mirror.sync()
    assert report.state is RunState.HELD
    assert (world.live(), world.held()) == (3, 3)
    assert world.live(other) == before - 1
    reason = report.resources["groups"]["problem"]
    assert "waits for approval" in reason
    assert "all 3 members that are left of a group" in reason
    assert "Member.Read.Hidden" in reason


def test_held_members_of_a_hidden_group_go_once_they_are_approved(world: World) -> None:
    world.empty()
    world.mirror.sync()
    assert approve_held(world.mirror.database, 1) == 3
    assert world.live() == 0
    assert world.mirror.sync().state is RunState.SUCCEEDED
    assert_exact(world.mirror.database, world.tenant)


def test_a_rejection_walks_anew_and_holds_what_is_still_not_shown(world: World) -> None:
    world.empty()
    world.mirror.sync()
    assert reject_held(world.mirror.database, 1) == 3
    assert world.mirror.sync().state is RunState.HELD
    assert (world.live(), world.held()) == (3, 3)


def test_members_that_show_again_dissolve_what_is_held(world: World) -> None:
    world.empty()
    world.mirror.sync()
    mark = read_last_seq(world.mirror.database)
    world.add()
    world.mirror.sync()
    assert world.mirror.sync().state is RunState.SUCCEEDED
    assert world.held() == 0
    assert read_events(world.mirror.database, after=mark) == []
    assert_exact(world.mirror.database, world.tenant)


def test_a_hidden_group_that_keeps_a_member_is_not_held(world: World) -> None:
    for user in world.users[1:]:
        world.tenant.remove_member(world.group, user)
    assert world.mirror.sync().state is RunState.SUCCEEDED
    assert world.live() == 1
    world.tenant.remove_member(world.group, world.users[0])
    assert world.mirror.sync().state is RunState.HELD
    assert world.live() == 1


def test_a_hidden_group_that_goes_takes_its_members_along(world: World) -> None:
    world.empty()
    world.tenant.delete_group(world.group)
    assert world.mirror.sync().state is RunState.SUCCEEDED
    assert (world.live(), world.held()) == (0, 0)
    assert_exact(world.mirror.database, world.tenant)


def test_what_is_held_of_a_group_that_goes_later_waits_no_more(world: World) -> None:
    world.empty()
    assert world.mirror.sync().state is RunState.HELD
    world.tenant.delete_group(world.group)
    world.mirror.sync()
    assert world.mirror.sync().state is RunState.SUCCEEDED
    assert world.held() == 0
    assert_exact(world.mirror.database, world.tenant)


def test_a_group_that_hides_nothing_may_lose_all_its_members(world: World) -> None:
    other = open_group(world)
    for member in world.tenant.members_of(other):
        world.tenant.remove_member(other, member.id)
    assert world.mirror.sync().state is RunState.SUCCEEDED
    assert world.live(other) == 0


# ---- another group with hidden membership is seen


def add_hidden_group(world: World) -> str:
    """A second mirrored group with hidden membership and one member."""
    other = world.tenant.create_group(visibility=HIDDEN, displayName="Also quiet")
    world.tenant.add_member(other, world.users[0])
    world.mirror.sync()
    assert world.live(other) == 1
    return str(other)


def test_the_last_removal_is_applied_while_another_hidden_group_keeps_members(
    world: World,
) -> None:
    other = add_hidden_group(world)
    world.empty()
    assert world.mirror.sync().state is RunState.SUCCEEDED
    assert (world.live(), world.live(other), world.held()) == (0, 1, 0)
    assert_exact(world.mirror.database, world.tenant)


def test_a_round_that_empties_every_hidden_group_is_held(world: World) -> None:
    other = add_hidden_group(world)
    world.empty()
    world.tenant.remove_member(other, world.users[0])
    assert world.mirror.sync().state is RunState.HELD
    assert (world.live(), world.live(other), world.held()) == (3, 1, 4)


def test_a_held_removal_is_applied_once_a_hidden_membership_is_seen(world: World) -> None:
    world.empty()
    assert world.mirror.sync().state is RunState.HELD
    add_hidden_group(world)
    assert world.mirror.sync().state is RunState.SUCCEEDED
    assert (world.live(), world.held()) == (0, 0)
    assert_exact(world.mirror.database, world.tenant)


def lose_unannounced(world: World) -> None:
    """All members leave, and no delta reports it."""
    log = world.tenant.change_log["groups"]
    place = len(log)
    world.empty()
    for position in range(place, len(log)):
        log[position] = (0, None)


def test_a_walk_that_sees_another_hidden_membership_applies_the_removal(world: World) -> None:
    add_hidden_group(world)
    lose_unannounced(world)
    assert world.mirror.sync("groups", full=True).state is RunState.SUCCEEDED
    assert (world.live(), world.held()) == (0, 0)
    assert_exact(world.mirror.database, world.tenant)


def test_a_walk_applies_what_a_walk_held_once_a_hidden_membership_is_seen(world: World) -> None:
    other = add_hidden_group(world)
    hide(world)
    world.mirror.sync("groups", full=True)
    assert world.held() == 4
    lose_unannounced(world)
    world.tenant.options.hide_hidden_members = False
    assert world.mirror.sync("groups", full=True).state is RunState.SUCCEEDED
    assert (world.live(), world.live(other), world.held()) == (0, 1, 0)
    assert_exact(world.mirror.database, world.tenant)


def test_a_walk_that_is_shown_no_member_of_any_hidden_group_is_held(world: World) -> None:
    other = add_hidden_group(world)
    hide(world)
    assert world.mirror.sync("groups", full=True).state is RunState.HELD
    assert (world.live(), world.live(other), world.held()) == (3, 1, 4)


# ---- a walk


def hide(world: World) -> int:
    """The permission is lost; how many memberships can no longer be seen."""
    world.tenant.options.hide_hidden_members = True
    shown, all_of_them = world.tenant.truth(hidden=False), world.tenant.truth()
    return all_of_them["group_members"].count - shown["group_members"].count


def test_a_walk_that_is_shown_no_hidden_member_deletes_none(world: World) -> None:
    other, mark = open_group(world), read_last_seq(world.mirror.database)
    log, leaving = world.tenant.change_log["groups"], world.tenant.members_of(other)[0].id
    before, place = world.live(other), len(log)
    world.tenant.remove_member(other, leaving)
    log[place] = (0, None)  # no delta tells of it
    hidden = hide(world)
    assert hidden >= 3
    world.mirror.nango.calls.reset()
    report = world.mirror.sync("groups", full=True)
    assert report.state is RunState.HELD
    assert (world.live(), world.held()) == (3, hidden)
    assert world.live(other) == before - 1
    told = read_events(world.mirror.database, after=mark)
    assert [(e["object_id"], e["change"]) for e in told] == [(f"{other}/{leaving}", "deleted")]
    assert world.mirror.nango.calls.graph["groups/{id}/members"] == 1, "only the other is confirmed"
    assert "Member.Read.Hidden" in report.resources["groups"]["problem"]


def test_what_a_walk_held_is_held_by_the_next_walk_too(world: World) -> None:
    hidden = hide(world)
    world.mirror.sync("groups", full=True)
    assert world.mirror.sync().state is RunState.HELD
    assert world.mirror.sync("groups", full=True).state is RunState.HELD
    assert (world.live(), world.held()) == (3, hidden)


def test_a_walk_that_is_shown_them_again_lets_go(world: World) -> None:
    hide(world)
    mark = read_last_seq(world.mirror.database)
    world.mirror.sync("groups", full=True)
    world.tenant.options.hide_hidden_members = False
    assert world.mirror.sync("groups", full=True).state is RunState.SUCCEEDED
    assert world.held() == 0
    assert read_events(world.mirror.database, after=mark) == []
    assert_exact(world.mirror.database, world.tenant)


def test_a_walk_that_was_held_is_applied_once_approved(world: World) -> None:
    hidden = hide(world)
    world.mirror.sync("groups", full=True)
    assert approve_held(world.mirror.database, 1) == hidden
    assert world.mirror.sync("groups", full=True).state is RunState.SUCCEEDED
    assert world.live() == 0


def test_a_listing_without_delta_holds_them_as_well(make_mirror: MakeMirror) -> None:
    tenant = Tenant(seed=52, users=80, groups=12, sites=2)
    tenant.options.no_delta = True
    mirror = make_mirror(tenant)
    mirror.sync()
    world = World(mirror)
    hidden = hide(world)
    assert mirror.sync().state is RunState.HELD
    assert (world.live(), world.held()) == (3, hidden)
    assert mirror.sync().state is RunState.HELD
    tenant.options.hide_hidden_members = False
    assert mirror.sync().state is RunState.SUCCEEDED
    assert_exact(mirror.database, tenant)


# ---- members that are deleted themselves


def delete_members(world: World) -> None:
    """They leave their groups with it, which this tenant tells, too."""
    world.tenant.options.removals_on_delete = True
    for user in world.users:
        world.tenant.delete_user(user)


def users_come_late(world: World, *, page: int, status: int = 200) -> None:
    """Groups are done before that page of the changes of users arrives, if it does."""
    world.tenant.options.batch_error_status = 404
    asked = {"users": 0, "groups": 0}

    def linger(request: Request) -> Response | None:
        name = request.path.removesuffix("/delta").rpartition("/")[2]
        if name not in asked:
            return None
        number, asked[name] = asked[name], asked[name] + 1
        response = GraphService().handle(world.tenant, request)
        if name == "groups":
            return replace(response, delay=0.3 if number else 0)
        return replace(response, delay=0.7, status=status) if number >= page else response

    world.mirror.nango.before_graph = linger


@pytest.mark.parametrize("page", [0, 1], ids=["all of them", "the second page"])
def test_members_that_are_deleted_themselves_are_not_held(world: World, page: int) -> None:
    for number in range(3):
        world.tenant.update_user(world.tenant.users.id_at(20 + number), city="Delft")
    delete_members(world)
    world.tenant.update_user(world.tenant.users.id_at(30), city="Delft")
    world.tenant.options.delta_page_size = 6
    users_come_late(world, page=page)
    mark = read_last_seq(world.mirror.database)
    report = world.mirror.sync()
    assert report.state is RunState.SUCCEEDED
    assert report.resources["groups"]["problem"] is None
    assert (world.live(), world.held(), world.stream("phase")) == (0, 0, "delta")
    ended = [e["object_id"] for e in read_events(world.mirror.database, after=mark)]
    assert {f"{world.group}/{user}" for user in world.users} <= set(ended)
    assert_exact(world.mirror.database, world.tenant)


def test_members_whose_deletion_is_announced_already_are_not_held(world: World) -> None:
    """The round of users is under way and waits; that of groups is done, a page later."""
    for number in range(3):
        world.tenant.update_user(world.tenant.users.id_at(20 + number), city="Delft")
    for group in [one["id"] for one in world.tenant.iterate_live("groups")][:8]:
        world.tenant.update_group(group, description="Delft")
    delete_members(world)
    world.tenant.update_user(world.tenant.users.id_at(30), city="Delft")
    world.tenant.options.delta_page_size = 6
    users_come_late(world, page=1, status=503)
    assert world.mirror.sync().state is RunState.PARTIAL
    assert (world.live(), world.held(), world.stream("phase")) == (0, 0, "delta")
    world.mirror.nango.before_graph = None
    assert world.mirror.sync().state is RunState.SUCCEEDED
    assert_exact(world.mirror.database, world.tenant)


def test_members_left_beside_deleted_ones_are_held_all_the_same(world: World) -> None:
    world.tenant.options.removals_on_delete = True
    stays, *others = world.users
    for user in others:
        world.tenant.delete_user(user)
    world.tenant.remove_member(world.group, stays)
    assert world.mirror.sync().state is RunState.HELD
    assert (world.live(), world.held()) == (1, 1)
    assert world.mirror.sync().state is RunState.HELD
    assert approve_held(world.mirror.database, 1) == 1
    assert world.mirror.sync().state is RunState.SUCCEEDED
    assert_exact(world.mirror.database, world.tenant)


def test_what_is_held_of_members_deleted_later_waits_no_more(world: World) -> None:
    delete_members(world)
    assert world.mirror.sync("groups").state is RunState.HELD, "users were not asked for"
    assert world.mirror.sync().state is RunState.SUCCEEDED
    assert (world.live(), world.held(), world.stream("phase")) == (0, 0, "delta")
    assert_exact(world.mirror.database, world.tenant)
