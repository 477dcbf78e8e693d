"""A group of very many members is compared with Graph's list a bounded number of rows at a time."""

from collections import Counter

import pytest
from sqlalchemy import text

from models.resources.group_members import GROUP_MEMBERS
from models.run import RunState
from sandbox.tenant import Tenant
from tests.integration.test_quarantine import Spoilt, an_hour_passes, tick
from tests.support.mirror import (
    MakeMirror,
    Mirror,
    assert_exact,
    fetch_scalar,
    read_events,
    read_last_seq,
)
from worker.store.lease import interrupt_writer
from worker.store.mirror.edges import MEMBERS_BATCH, iterate_live_members, render_edge_key
from worker.store.mirror.hidden_membership import hold_emptying_removals
from worker.store.mirror.recheck import RECHECK_BATCH, list_restored_endpoint_members
from worker.store.sweep.removals import note_removals

pytestmark = pytest.mark.first_resources

CROWD = MEMBERS_BATCH + 300


def crowded(mirror_of: MakeMirror, members: int) -> tuple[Mirror, str]:
    tenant = Tenant(seed=6, users=members + 20, groups=3, big_groups=1, big_group_members=members)
    mirror = mirror_of(tenant)
    tenant.options.delta_page_size = 10_000
    mirror.sync()
    groups = [tenant.groups.id_at(n) for n in range(3)]
    return mirror, max(groups, key=lambda one: len(tenant.members_of(one)))


@pytest.mark.parametrize("members", [MEMBERS_BATCH - 1, MEMBERS_BATCH, CROWD])
def test_members_of_a_group_are_read_a_bounded_number_at_a_time(
    make_mirror: MakeMirror, members: int
) -> None:
    mirror, group = crowded(make_mirror, members)
    with interrupt_writer(mirror.database, mirror.connection_id) as tx:
        pages = list(iterate_live_members(tx, GROUP_MEMBERS, group))
    assert max(len(page) for page in pages) <= MEMBERS_BATCH
    read = [one for page in pages for one in page]
    assert Counter(read) == Counter(one.id for one in mirror.tenant.members_of(group))


def test_a_big_group_that_is_read_as_a_whole_loses_exactly_who_went(
    make_mirror: MakeMirror,
) -> None:
    mirror, group = crowded(make_mirror, CROWD)
    tenant = mirror.tenant
    there = sorted(one.id for one in tenant.members_of(group))
    gone = [there[0], there[MEMBERS_BATCH - 1], there[MEMBERS_BATCH], there[-1]]
    for one in gone:
        tenant.remove_member(group, one)
    tenant.touch_group(group)
    mark = read_last_seq(mirror.database)
    outside = next(
        one for one in map(tenant.users.id_at, range(CROWD + 20)) if one not in set(there)
    )
    tenant.add_member(group, outside)
    Spoilt(mirror, {group: outside})
    assert tick(mirror) is RunState.PARTIAL
    an_hour_passes(mirror)
    assert tick(mirror) is RunState.SUCCEEDED
    assert_exact(mirror.database, tenant)
    told = Counter((e["object_id"], e["change"]) for e in read_events(mirror.database, after=mark))
    expected = [(f"{group}/{one}", "deleted") for one in gone]
    assert told == Counter([*expected, (f"{group}/{outside}", "created")])


@pytest.mark.parametrize("kept", [0, 1])
def test_removals_that_empty_a_big_hidden_group_are_held_where_they_lie(
    make_mirror: MakeMirror, kept: int
) -> None:
    mirror, group = crowded(make_mirror, CROWD)
    members = sorted(one.id for one in mirror.tenant.members_of(group))
    hide = text("update directory.groups set visibility = 'HiddenMembership' where id = :id")
    with interrupt_writer(mirror.database, mirror.connection_id) as tx:
        tx.db.execute(hide, {"id": group})
        going = [render_edge_key((group, one)) for one in members[kept:]]
        note_removals(tx, GROUP_MEMBERS, dict.fromkeys(going, "not_seen"))
        assert hold_emptying_removals(tx, GROUP_MEMBERS) is (kept == 0)
    held = fetch_scalar(mirror.database, "select count(*) from sync.removals where held")
    assert held == (0 if kept else CROWD)


def ended(mirror: Mirror, group: str, reason: str) -> set[str]:
    statement = text(
        "select member_id from directory.group_members"
        " where group_id = :group and deleted_reason = :reason"
    )
    with mirror.database.open_transaction() as db:
        found = db.execute(statement, {"group": group, "reason": reason})
        return set(found.scalars())


def test_a_big_group_comes_back_with_exactly_the_members_that_its_list_shows(
    make_mirror: MakeMirror,
) -> None:
    mirror, group = crowded(make_mirror, CROWD)
    tenant = mirror.tenant
    there = sorted(one.id for one in tenant.members_of(group))
    tenant.delete_group(group)
    mirror.sync()
    gone = {there[0], there[MEMBERS_BATCH - 1], there[MEMBERS_BATCH], there[-1]}
    dead = there[1]
    tenant.delete_user(dead)
    tenant.restore_group(group)
    log = tenant.change_log["groups"]
    place = len(log)
    for one in gone:
        tenant.remove_member(group, one)
    log[place:] = [(0, None)] * (len(log) - place)  # no delta tells of it
    mark = read_last_seq(mirror.database)
    for _ in range(2):
        assert mirror.sync().state is RunState.SUCCEEDED
    assert_exact(mirror.database, tenant)
    assert ended(mirror, group, "not_seen") >= gone, "they are not asked for again"
    assert ended(mirror, group, "cascade") == {dead}, "it may come back with its membership"
    told = Counter(
        e["change"]
        for e in read_events(mirror.database, after=mark)
        if e["object_id"][:36] == group
    )
    assert told["restored"] == len(there) - len(gone)
    read = mirror.nango.calls.graph["groups/{id}/members"]
    mirror.sync()
    assert mirror.nango.calls.graph["groups/{id}/members"] == read
    tenant.restore_user(dead)
    mirror.sync()
    assert_exact(mirror.database, tenant)


def test_memberships_that_came_back_are_settled_a_bounded_number_at_a_time(
    make_mirror: MakeMirror,
) -> None:
    mirror, group = crowded(make_mirror, CROWD)
    with mirror.database.open_transaction() as db:
        db.exec_driver_sql(
            "update directory.group_members set deleted_at = now(), deleted_reason = 'cascade'"
            f" where group_id = '{group}'"
        )
    found: list[str] = []
    after: str | None = "00000000-0000-0000-0000-000000000000"
    while after is not None:
        with interrupt_writer(mirror.database, mirror.connection_id) as tx:
            some, after = list_restored_endpoint_members(tx, GROUP_MEMBERS, group, after)
        assert len(some) <= RECHECK_BATCH
        found += some
    assert Counter(found) == Counter(one.id for one in mirror.tenant.members_of(group))
