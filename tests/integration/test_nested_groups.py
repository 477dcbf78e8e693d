"""Groups in groups: what is stored of them at every stage of a connection, and the answers."""

from collections import defaultdict
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest
from sqlalchemy import text

from models.resource import DeletedReason
from models.resources import RESOURCES
from models.run import RunState, RunTrigger
from models.stream import Nesting, Phase
from sandbox.tenant import Tenant
from tests.integration.test_switches import tick, wish
from tests.integration.test_takeover import first_slice, reconnect
from tests.support.databases import DatabaseFactory
from tests.support.erasure import find_traces
from tests.support.mirror import (
    MakeMirror,
    Mirror,
    assert_exact,
    fetch_scalar,
    verify_connection,
)
from worker.erasure.erase import erase
from worker.erasure.target import ErasureTarget
from worker.store.engine import Database
from worker.store.lease import interrupt_writer
from worker.store.mirror.edges import delete_edges, merge_edges
from worker.store.mirror.nesting import FEW_PAIRS, MAX_PAIRS, compute_nesting, get_pair_limit
from worker.store.state.forget import forget_connection
from worker.store.state.streams import Stream
from worker.sync.connections.discover import discover
from worker.sync.run import run_slice
from worker.sync.state import NESTING_PAUSE, should_compute_nesting

GROUPS, MEMBERS = RESOURCES["groups"], RESOURCES["group_members"]
NAMES = ("Staff", "Sales", "North", "Field")
"""Groups of which each contains the next."""


class Nest:
    """A chain of groups in a mirrored tenant, with a user in the innermost one."""

    def __init__(self, mirror: Mirror) -> None:
        self.mirror, self.tenant = mirror, mirror.tenant
        self.groups = [self.tenant.create_group(displayName=name) for name in NAMES]
        for outer, inner in zip(self.groups, self.groups[1:], strict=False):
            self.tenant.add_member(outer, inner, "group")
        self.user = self.tenant.create_user(displayName="Ann")
        self.tenant.add_member(self.groups[-1], self.user)

    def read(self, statement: str, **values: Any) -> list[tuple[Any, ...]]:
        with self.mirror.database.open_transaction() as db:
            return [tuple(row) for row in db.execute(text(statement), values)]

    @property
    def state(self) -> str:
        (state,) = self.read("select state from analytics.nesting where connection_id = 1")
        return str(state[0])

    def list_groups(self, member: str = "") -> list[tuple[str, str]]:
        """Return the names of the groups of the user, or of another, each with the way."""
        found = self.read(
            "select group_name, path from analytics.groups_of(1, cast(:id as uuid))"
            " order by depth, 1",
            id=member or self.user,
        )
        return [(str(name), str(path)) for name, path in found]

    def count_pairs(self) -> int:
        return int(
            fetch_scalar(self.mirror.database, "select count(*) from directory.group_closure")
        )

    def is_as_walked(self) -> bool:
        """Whether the stored pairs are those of the stored memberships."""
        found = self.read(
            "select group_id, member_id from directory.group_members"
            " where member_type = 'group' and deleted_at is null"
        )
        inner = defaultdict(set)
        for group, member in found:
            inner[group].add(member)
        pairs = set()
        for outer in list(inner):
            left = list(inner[outer])
            while left:
                one = left.pop()
                if (outer, one) not in pairs:
                    pairs.add((outer, one))
                    left += inner[one]
        return pairs == set(self.read("select group_id, inner_id from directory.group_closure"))


WHOLE = [
    ("Field", "Field"),
    ("North", "North > Field"),
    ("Sales", "Sales > North > Field"),
    ("Staff", "Staff > Sales > North > Field"),
]


@pytest.fixture
def nest(mirror: Mirror) -> Nest:
    made = Nest(mirror)
    assert mirror.sync().state is RunState.SUCCEEDED
    return made


# ---- while a connection is read


def test_a_first_load_computes_the_closure_at_its_end(make_mirror: MakeMirror) -> None:
    nest = Nest(make_mirror(Tenant(seed=3, users=40, groups=8, sites=2)))
    nest.tenant.options.delta_page_size = 3
    run_slice(nest.mirror.runtime, 1, trigger=RunTrigger.BACKFILL, seconds=0.0)
    assert (nest.state, nest.count_pairs()) == ("not_known", 0)
    assert nest.mirror.sync().state is RunState.SUCCEEDED
    assert (nest.state, nest.list_groups()) == ("complete", WHOLE)
    assert nest.is_as_walked()
    assert_exact(nest.mirror.database, nest.tenant)


def test_a_round_keeps_the_closure_and_leaves_it_alone_if_no_group_is_concerned(
    nest: Nest,
) -> None:
    assert (nest.state, nest.list_groups()) == ("complete", WHOLE)
    since = nest.read("select computed_at from analytics.nesting")
    versions = "select group_id, inner_id, xmin from directory.group_closure order by 1, 2"
    before = nest.read(versions)
    nest.tenant.remove_member(nest.groups[-1], nest.user)
    nest.tenant.add_member(nest.groups[1], nest.user)
    nest.mirror.sync()
    assert nest.list_groups() == [("Sales", "Sales"), ("Staff", "Staff > Sales")]
    assert nest.read(versions) == before
    nest.tenant.add_member(nest.groups[0], nest.groups[2], "group")
    nest.mirror.sync()
    assert nest.list_groups(nest.groups[3])[1:] == [
        ("Sales", "Sales > North"),
        ("Staff", "Staff > North"),
    ]
    nest.tenant.remove_member(nest.groups[2], nest.groups[3])
    nest.mirror.sync()
    assert nest.list_groups(nest.groups[3]) == []
    assert nest.is_as_walked()
    assert nest.read("select computed_at from analytics.nesting") == since


def test_a_circle_is_told_as_a_group_that_is_its_own_member(nest: Nest) -> None:
    nest.tenant.add_member(nest.groups[3], nest.groups[0], "group")
    nest.mirror.sync()
    circular = nest.read(
        "select group_name, depth from analytics.effective_group_members"
        " where member_id = group_id order by 1"
    )
    assert circular == [(name, 3) for name in sorted(NAMES)]
    assert nest.is_as_walked()
    (members,) = nest.read(
        "select array_agg(member_name order by member_name)"
        " from analytics.members_of(1, cast(:id as uuid))",
        id=nest.groups[2],
    )
    assert members == (["Ann", *sorted(NAMES)],)


def test_a_group_that_goes_takes_its_ways_along_until_it_is_back(nest: Nest) -> None:
    nest.tenant.delete_group(nest.groups[1])
    nest.mirror.sync()
    assert nest.list_groups() == WHOLE[:2]
    assert nest.is_as_walked()
    nest.tenant.restore_group(nest.groups[1])
    nest.mirror.sync()
    assert nest.list_groups() == WHOLE
    assert nest.is_as_walked()
    assert_exact(nest.mirror.database, nest.tenant)


def test_a_full_walk_mends_a_closure_that_verify_finds_wrong(nest: Nest) -> None:
    with nest.mirror.database.open_transaction() as db:
        db.execute(text("delete from directory.group_closure where depth = 2"))
        db.execute(text("update directory.group_closure set depth = 9 where depth = 3"))
    problems = verify_connection(nest.mirror.database).problems
    assert len(problems) == 1
    assert problems[0].startswith("group_closure: ")
    nest.mirror.sync("groups", full=True)
    assert verify_connection(nest.mirror.database).problems == []
    assert nest.list_groups() == WHOLE


def test_after_an_upgrade_the_next_round_computes_the_closure(nest: Nest) -> None:
    with nest.mirror.database.open_transaction() as db:
        db.execute(text("delete from directory.group_closure"))
        db.execute(
            text("update sync.streams set nesting = null, nesting_mark = null, nesting_at = null")
        )
    assert (nest.state, nest.list_groups()) == ("not_known", WHOLE)
    nest.mirror.sync()
    assert (nest.state, nest.list_groups()) == ("complete", WHOLE)
    assert nest.is_as_walked()


def test_what_an_earlier_release_writes_is_noticed_at_once(nest: Nest) -> None:
    """It keeps no closure, but it moves the stream on with each page."""
    with nest.mirror.database.open_transaction() as db:
        db.execute(
            text("update directory.group_members set deleted_at = now() where member_id = :id"),
            {"id": nest.groups[2]},
        )
        db.execute(text("update sync.streams set walk_id = walk_id + 1 where resource = 'groups'"))
    assert (nest.state, nest.list_groups()) == ("not_known", WHOLE[:2])
    assert verify_connection(nest.mirror.database).problem_count == 1, "an end without an event"
    nest.tenant.add_member(nest.groups[0], nest.groups[3], "group")
    nest.mirror.sync()
    assert nest.state == "complete"
    assert ("Staff", "Staff > Field") in nest.list_groups()
    assert nest.is_as_walked()


# ---- what leaves nothing


def test_a_resource_that_is_switched_off_has_no_closure(nest: Nest) -> None:
    for name in ("groups", "group_members"):
        wish(nest.mirror, resources={name: False})
        tick(nest.mirror)
        assert (nest.state, nest.count_pairs(), nest.list_groups()) == ("not_known", 0, [])
        wish(nest.mirror)
        tick(nest.mirror)
        nest.mirror.sync("groups", full=True)
        assert (nest.state, nest.list_groups()) == ("complete", WHOLE)
        assert nest.is_as_walked()


def test_an_erased_group_is_in_no_closure(nest: Nest) -> None:
    middle = nest.groups[1]
    nest.mirror.sync()
    erase(nest.mirror.database, ErasureTarget(1, "groups", middle), lambda _table, _rows: None)
    assert find_traces(nest.mirror.database, [middle]) == {}
    assert nest.list_groups() == WHOLE[:2]
    assert nest.is_as_walked()
    assert nest.state == "complete"


def test_who_takes_over_a_connection_has_the_closure_after_reading_all(nest: Nest) -> None:
    reconnect(nest.mirror)
    first_slice(nest.mirror.runtime, 2)
    assert (nest.state, nest.list_groups()) == ("not_known", WHOLE)
    nest.tenant.remove_member(nest.groups[0], nest.groups[1])
    assert nest.mirror.sync().state is RunState.SUCCEEDED
    assert (nest.state, nest.list_groups()) == ("complete", WHOLE[:3])
    assert nest.is_as_walked()


def test_a_forgotten_connection_leaves_no_closure(nest: Nest) -> None:
    assert nest.count_pairs() > 5
    nest.mirror.nango.remove_connection("contoso")
    runtime = nest.mirror.runtime
    discover(runtime.database, runtime.nango, runtime.settings)
    assert nest.list_groups() == [], "it is retired"
    forget_connection(nest.mirror.database, 1, lambda _table, _rows: None, batch=2)
    assert nest.count_pairs() == 0


# ---- the limit


@pytest.fixture
def crowded(one_connection: Database) -> Database:
    """A connection without groups, whose test adds large circles."""
    with one_connection.open_transaction() as db:
        db.exec_driver_sql("truncate directory.group_members, directory.group_closure")
    return one_connection


@pytest.fixture(scope="module")
def one_connection(cluster: DatabaseFactory) -> Iterator[Database]:
    url = cluster.create_migrated()
    database = Database(url)
    with database.open_transaction() as db:
        db.exec_driver_sql(
            "insert into sync.connections (nango_connection_id, provider_config_key, provider)"
            " values ('c', 'k', 'microsoft')"
        )
        db.exec_driver_sql(
            "insert into sync.streams (connection_id, resource, phase)"
            " values (1, 'groups', 'delta')"
        )
    yield database
    database.close()
    cluster.drop(url)


@pytest.mark.parametrize(
    ("edges", "limit"),
    [(0, FEW_PAIRS), (4000, FEW_PAIRS), (20_000, 500_000), (1_000_000, MAX_PAIRS)],
)
def test_a_closure_has_a_limited_number_of_pairs_for_each_nested_membership(
    edges: int, limit: int
) -> None:
    assert get_pair_limit(edges) == limit


@pytest.mark.parametrize(
    ("groups", "steps", "state", "pairs"),
    [(100, 1, "complete", 10_000), (330, 1, "too_large", 0), (330, 14, "complete", 330**2)],
)
def test_a_large_circle_has_no_closure_and_right_answers(
    crowded: Database, groups: int, steps: int, state: str, pairs: int
) -> None:
    """Each group contains the next ones: hundreds of memberships make the square in pairs."""
    ids = [f"00000000-0000-4000-8001-{n:012x}" for n in range(groups)]
    ring = {
        (one, ids[(n + step) % groups]): "group"
        for n, one in enumerate(ids)
        for step in range(1, steps + 1)
    }
    with interrupt_writer(crowded, 1) as tx:
        merge_edges(tx, MEMBERS, ring)
        compute_nesting(tx, MEMBERS)
    stored = "select count(*) from directory.group_closure"
    assert fetch_scalar(crowded, "select state from analytics.nesting") == state
    assert fetch_scalar(crowded, stored) == pairs
    inside = "select count(*) from analytics.groups_of(1, cast(:id as uuid))"
    assert fetch_scalar(crowded, inside, id=ids[7]) == groups


def test_a_limit_holds_for_circles_that_come_one_by_one(crowded: Database) -> None:
    """None of them alone makes more pairs than are always kept."""
    states = []
    with interrupt_writer(crowded, 1) as tx:
        compute_nesting(tx, MEMBERS)
    for number in range(2):
        ids = [f"00000000-0000-4000-{9000 + number}-{n:012x}" for n in range(300)]
        with interrupt_writer(crowded, 1) as tx:
            merge_edges(tx, MEMBERS, dict.fromkeys(pairwise([*ids, ids[0]]), "group"))
        states.append(fetch_scalar(crowded, "select state from analytics.nesting"))
    assert states == ["complete", "too_large"]


def test_a_closure_beyond_the_limit_is_dropped_and_comes_back(crowded: Database) -> None:
    number = int(MAX_PAIRS**0.5) + 2
    ids = [f"00000000-0000-4000-8000-{n:012x}" for n in range(number)]
    hub, others = ids[0], ids[1:]

    def count(statement: str, **values: Any) -> Any:
        return fetch_scalar(crowded, f"select {statement}", **values)

    state = "(select state || ' ' || coalesce(pairs, 0) from analytics.nesting)"
    with interrupt_writer(crowded, 1) as tx:
        merge_edges(tx, MEMBERS, {(hub, one): "group" for one in others})
        compute_nesting(tx, MEMBERS)
    assert count(state) == f"complete {number - 1}"
    back = {(one, hub): "group" for one in others}
    with interrupt_writer(crowded, 1) as tx:
        merge_edges(tx, MEMBERS, back)
    assert count(state) == "too_large 0"
    assert count("count(*) from directory.group_closure") == 0
    members = "count(*) from analytics.members_of(1, cast(:id as uuid))"
    assert count(members, id=others[0]) == number, "itself is on a circle"
    of = "count(*) from analytics.groups_of(1, cast(:id as uuid))"
    assert count(of, id=others[0]) == number
    with interrupt_writer(crowded, 1) as tx:
        gone = dict.fromkeys(list(back)[1:], DeletedReason.PERMANENTLY_DELETED.value)
        delete_edges(tx, MEMBERS, gone)
    assert count(state) == "too_large 0"
    with interrupt_writer(crowded, 1) as tx:
        compute_nesting(tx, MEMBERS)
    # The hub and the one other that still contains it reach all, themselves included.
    assert count(state) == f"complete {2 * number}"


def test_a_closure_that_was_too_large_is_tried_again_once_a_day() -> None:
    now = datetime(2026, 5, 1, tzinfo=UTC)
    stream = Stream(
        resource=GROUPS,
        phase=Phase.DELTA,
        first_complete_at=now,
        nesting=Nesting.TOO_LARGE,
        nesting_at=now - NESTING_PAUSE + timedelta(minutes=1),
    )
    assert not should_compute_nesting(stream, MEMBERS, now)
    assert should_compute_nesting(stream, MEMBERS, now + timedelta(minutes=2))


@pytest.mark.parametrize(
    ("nesting", "phase", "expected"),
    [
        (None, Phase.DELTA, True),
        (None, Phase.HELD, True),
        (None, Phase.LISTING, False),
        (Nesting.COMPLETE, Phase.DELTA, False),
    ],
)
def test_the_end_of_a_round_computes_what_is_not_known(
    nesting: Nesting | None, phase: Phase, expected: bool
) -> None:
    now = datetime(2026, 5, 1, tzinfo=UTC)
    stream = Stream(resource=GROUPS, phase=phase, nesting=nesting, first_complete_at=now)
    assert should_compute_nesting(stream, MEMBERS, now) is expected
    first = Stream(resource=GROUPS, phase=phase, nesting=nesting)
    assert not should_compute_nesting(first, MEMBERS, now), "a first load does it at its own end"


_NESTS = """
    insert into directory.groups (connection_id, id, display_name, first_seen_at, changed_at)
    select c, md5('g' || n)::uuid, 'Group ' || n, now(), now()
      from generate_series(1, 2) c, generate_series(1, 500) n;
    insert into directory.group_members
           (connection_id, group_id, member_id, member_type, first_seen_at, changed_at)
    select c, md5('g' || mod(n, 500))::uuid, md5('u' || n)::uuid, 'user', now(), now()
      from generate_series(1, 2) c, generate_series(1, 5000) n;
    insert into directory.group_closure (connection_id, group_id, inner_id, depth, via_id)
    select c, md5('g' || n / 10)::uuid, md5('g' || n)::uuid, 1, md5('g' || n / 10)::uuid
      from generate_series(1, 2) c, generate_series(10, 500) n;
    analyze directory.groups, directory.group_members, directory.group_closure
"""
"""Tables of two customers with statistics, which decide between plans."""


@pytest.mark.parametrize(
    ("column", "indexes"),
    [
        ("member_id", ("ix_group_members_member_id_connection_id", "ix_group_closure_inner_id")),
        ("group_id", ("pk_group_members", "pk_group_closure")),
    ],
)
def test_a_filter_on_a_group_or_a_member_reads_only_what_it_asks_for(
    crowded: Database, column: str, indexes: tuple[str, ...]
) -> None:
    query = f"explain select * from analytics.effective_group_members where {column} = "
    with crowded.open_transaction() as db:
        for statement in _NESTS.split(";"):
            db.exec_driver_sql(statement)
        db.exec_driver_sql("set local enable_seqscan = off")
        found = db.exec_driver_sql(
            f"{query} '00000000-0000-4000-8000-000000000001' and connection_id = 1"
        )
        plan = "\n".join(found.scalars())
        db.rollback()
    assert all(index in plan for index in indexes)
    assert "Seq Scan on group_" not in plan


@pytest.mark.parametrize(
    "name", ["group_name = 'Group 7'", "user_principal_name = 'nobody@contoso.example'"]
)
def test_a_filter_by_name_finds_the_object_before_its_memberships(
    crowded: Database, name: str
) -> None:
    query = f"explain select * from analytics.effective_group_members where {name}"
    with crowded.open_transaction() as db:
        for statement in _NESTS.split(";"):
            db.exec_driver_sql(statement)
        db.exec_driver_sql("set local enable_seqscan = off")
        plan = "\n".join(db.exec_driver_sql(f"{query} and connection_id = 1").scalars())
        db.rollback()
    members = [line for line in plan.splitlines() if "on group_members d" in line]
    assert members
    assert all("Index" in line for line in members), plan
    assert "(connection_id = 1) AND (group_id = " in plan or "(member_id = u" in plan, plan
