"""The closure of groups in groups equals a plain computation after any edits, whatever is killed.

The reference is a model of the live memberships in this test; the edits go through the functions
that every writer uses, in its transactions.
"""

import random
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, NoReturn

import pytest
from sqlalchemy import text

from models.resource import DeletedReason
from models.resources import RESOURCES
from tests.support.databases import DatabaseFactory
from worker.erasure.store.rows import erase_rows
from worker.store.engine import Database
from worker.store.lease import Transaction, interrupt_writer
from worker.store.mirror.deletions import delete_objects
from worker.store.mirror.edges import delete_edges, merge_edges
from worker.store.mirror.nesting import compute_nesting, count_wrong_pairs

GROUPS, MEMBERS = RESOURCES["groups"], RESOURCES["group_members"]
CUSTOMERS = (1, 2, 3)
EDITS = 500
"""For each customer."""
GONE = DeletedReason.PERMANENTLY_DELETED.value
_ADD_GROUP = text("""
    insert into directory.groups (connection_id, id, display_name, first_seen_at, changed_at)
    values (:owner, :id, :name, now(), now())
    on conflict (connection_id, id) do update set deleted_at = null, deleted_reason = null
""")

Ways = dict[str, tuple[int, str]]
"""By what lies in a group: the depth, and the last group before it."""


def make_id(kind: int, number: int) -> str:
    return f"{kind:08x}-0000-4000-8000-{number:012x}"


class SimulatedKill(BaseException):
    """The process dies here."""


def die(tx: Transaction) -> NoReturn:
    """Do all that a commit begins with, and then die."""
    tx.finish()
    raise SimulatedKill


@dataclass
class Model:
    """The live memberships of one customer, and the database that should agree."""

    database: Database
    owner: int
    chance: random.Random
    groups: dict[str, bool] = field(default_factory=dict)
    """Whether each group is live."""
    edges: dict[tuple[str, str], str] = field(default_factory=dict)
    """The type of each live member, by group and member."""

    # ---- edits

    def edit(self) -> None:
        """Do one random edit; now and then the process dies before the commit."""
        before = dict(self.groups), dict(self.edges)
        choices = (self.link, self.unlink, self.delete, self.restore, self.erase)
        (choice,) = self.chance.choices(choices, (12, 8, 1, 3, 1))
        try:
            with interrupt_writer(self.database, self.owner) as tx:
                choice(tx)
                if self.chance.random() < 0.15:
                    die(tx)
        except SimulatedKill:
            self.groups, self.edges = before

    def add_group(self, number: int) -> None:
        group = make_id(1, number)
        self.groups[group] = True
        with interrupt_writer(self.database, self.owner) as tx:
            tx.db.execute(_ADD_GROUP, {"owner": self.owner, "id": group, "name": f"G{number}"})

    def pick(self, live: bool = True) -> str:  # noqa: FBT002
        return self.chance.choice([one for one, is_live in self.groups.items() if is_live is live])

    def link(self, tx: Transaction) -> None:
        """Let several memberships appear, some of users; a group may be in itself."""
        found = {}
        for _ in range(self.chance.randint(1, 5)):
            user = make_id(2, self.chance.randrange(6))
            is_user = self.chance.random() < 0.4
            found[self.pick(), user if is_user else self.pick()] = "user" if is_user else "group"
        merge_edges(tx, MEMBERS, found)
        self.edges |= found

    def unlink(self, tx: Transaction) -> None:
        some = self.chance.sample(sorted(self.edges), min(len(self.edges), 3))
        delete_edges(tx, MEMBERS, dict.fromkeys(some, GONE))
        self.forget(some)

    def forget(self, some: list[tuple[str, str]]) -> None:
        for pair in some:
            del self.edges[pair]

    def end(self, group: str) -> None:
        self.groups[group] = False
        self.forget([pair for pair in self.edges if group in pair])

    def delete(self, tx: Transaction) -> None:
        if sum(self.groups.values()) > 6:
            group = self.pick()
            delete_objects(tx, GROUPS, {group: GONE})
            self.end(group)

    def restore(self, tx: Transaction) -> None:
        if not all(self.groups.values()):
            group = self.pick(live=False)
            tx.db.execute(_ADD_GROUP, {"owner": self.owner, "id": group, "name": "again"})
            self.groups[group] = True

    def erase(self, tx: Transaction) -> None:
        if sum(self.groups.values()) > 8:
            group = self.pick()
            erase_rows(tx, GROUPS, group)
            self.end(group)
            del self.groups[group]
            self.groups[group] = False

    # ---- what should be so

    def find_ways(self, outer: str) -> Ways:
        """Return what lies in a group, by plain breadth first search."""
        inner = defaultdict(set)
        for (group, member), kind in self.edges.items():
            if kind == "group":
                inner[group].add(member)
        ways: Ways = {}
        level, depth = {outer}, 0
        while level:
            depth += 1
            reached = {one for via in level for one in inner[via]} - ways.keys()
            for one in reached:
                ways[one] = depth, min(via for via in level if one in inner[via])
            level = reached
        return ways

    def build_closure(self) -> set[tuple[str, str, int, str]]:
        return {
            (outer, inner, depth, via)
            for outer in self.groups
            for inner, (depth, via) in self.find_ways(outer).items()
        }

    def build_effective(self) -> dict[tuple[str, str], tuple[int, int, str]]:
        """Return depth, ways and the group with the direct membership, by group and member."""
        found: dict[tuple[str, str], list[tuple[int, str]]] = defaultdict(list)
        for outer in self.groups:
            inside = {inner: depth for inner, (depth, _) in self.find_ways(outer).items()}
            for group, member in self.edges:
                if group == outer:
                    found[outer, member].append((0, group))
                elif group in inside:
                    found[outer, member].append((inside[group], group))
        return {pair: (*min(ways)[:1], len(ways), min(ways)[1]) for pair, ways in found.items()}

    # ---- what is so

    def read(self, statement: str, **values: Any) -> list[Any]:
        with self.database.open_transaction() as db:
            return list(db.execute(text(statement), {"owner": self.owner, **values}).all())

    def assert_closure(self) -> set[tuple[str, str, int, str]]:
        stored = self.read(
            "select group_id::text, inner_id::text, depth, via_id::text"
            " from directory.group_closure where connection_id = :owner"
        )
        closure = self.build_closure()
        assert set(map(tuple, stored)) == closure
        state = "select state, pairs from analytics.nesting where connection_id = :owner"
        assert self.read(state) == [("complete", len(stored))]
        return closure

    def assert_answers(self) -> None:
        wanted = self.build_effective()
        columns = "member_id::text, depth, ways, through_group_id::text"
        found = self.read(
            f"select group_id::text, {columns} from analytics.effective_group_members"
            " where connection_id = :owner"
        )
        assert {(group, member): tuple(rest) for group, member, *rest in found} == wanted
        group = self.pick()
        members = self.read(
            f"select {columns}, path from analytics.members_of(:owner, :id)", id=group
        )
        assert {(group, one): (d, w, t) for one, d, w, t, _ in members} == {
            pair: way for pair, way in wanted.items() if pair[0] == group
        }
        member = self.chance.choice(sorted(self.edges) or [(group, group)])[1]
        groups = self.read(
            "select group_id::text, depth, ways, through_group_id::text, path"
            " from analytics.groups_of(:owner, :id)",
            id=member,
        )
        assert {(one, member): (d, w, t) for one, d, w, t, _ in groups} == {
            pair: way for pair, way in wanted.items() if pair[1] == member
        }
        names = dict(
            self.read(
                "select id::text, display_name from directory.groups where connection_id = :owner"
            )
        )
        for outer, through, depth, path in (
            *((group, t, d, path) for _, d, _, t, path in members),
            *((one, t, d, path) for one, d, _, t, path in groups),
        ):
            steps = path.split(" > ")
            assert len(steps) == depth + 1
            assert (steps[0], steps[-1]) == (names[outer], names[through])


@pytest.fixture(scope="module")
def database(cluster: DatabaseFactory) -> Iterator[Database]:
    url = cluster.create_migrated()
    opened = Database(url)
    with opened.open_transaction() as db:
        for owner in CUSTOMERS:
            db.exec_driver_sql(
                "insert into sync.connections"
                " (id, nango_connection_id, provider_config_key, provider, display_name)"
                " overriding system value"
                f" values ({owner}, 'c{owner}', 'k', 'microsoft', 'C{owner}')"
            )
            db.exec_driver_sql(
                "insert into sync.streams (connection_id, resource, phase)"
                f" values ({owner}, 'groups', 'delta')"
            )
    for owner in CUSTOMERS:
        with interrupt_writer(opened, owner) as tx:
            compute_nesting(tx, MEMBERS)
    yield opened
    opened.close()
    cluster.drop(url)


def test_the_closure_and_the_answers_are_right_after_every_edit(database: Database) -> None:
    models = [Model(database, owner, random.Random(owner)) for owner in CUSTOMERS[:2]]
    for model in models:
        for number in range(14):
            model.add_group(number)
    sizes, circles = [], 0
    for number in range(EDITS):
        for model in models:
            model.edit()
            closure = model.assert_closure()
            sizes.append(len(closure))
            circles += any(outer == inner for outer, inner, *_ in closure)
            if number % 25 == 0:
                model.assert_answers()
                with database.open_transaction() as db:
                    assert count_wrong_pairs(db, model.owner, MEMBERS) == 0
    assert max(sizes) > 100
    assert circles > EDITS / 2


def test_the_answers_are_the_same_where_no_closure_is_stored(database: Database) -> None:
    model = Model(database, 3, random.Random(7))
    for number in range(14):
        model.add_group(number)
    sizes = []
    for number in range(60):
        state = "null" if number % 2 else "'too_large'"
        with database.open_transaction() as db:
            db.exec_driver_sql(f"update sync.streams set nesting = {state} where connection_id = 3")
        model.edit()
        if number % 6 == 0:
            model.assert_answers()
            sizes.append(len(model.build_effective()))
        assert model.read("select from directory.group_closure where connection_id = :owner") == []
    assert max(sizes) > 50
    with interrupt_writer(database, 3) as tx:
        compute_nesting(tx, MEMBERS)
    model.assert_closure()
