"""Groups in groups: what their closure costs, and how long questions take with and without it."""

import random
from typing import Any, Final

from benchmarks.bench import Bench
from benchmarks.results import Scenario, SpeedTarget

LEVELS: Final = 10
QUESTIONS: Final = 15
RECURSIVE: Final = "a plain recursive query"

BUILD = "closure of groups: built at the end of a first load"
AGAIN = "closure of groups: checked at the end of a full walk"
SIZE = "closure of groups: bytes for each pair"
NESTED = "closure of groups: a group added to a group, or removed"
OTHER = "closure of groups: a user added to a group, or removed"
USER = "all groups of one user"
GROUP = "all members of one group"
IS_IN = "is a user in a group"
TENANT = "all members of all groups"

_CONNECTION = """
    insert into sync.connections
           (nango_connection_id, provider_config_key, provider, display_name)
    values ('contoso', 'key', 'microsoft', 'Contoso')
"""
_STREAM = """
    insert into sync.streams (connection_id, resource, phase) values (1, 'groups', 'delta')
"""
_OBJECTS = """
    insert into directory.{table} (connection_id, id, display_name, first_seen_at, changed_at)
    select 1, md5('{table}' || n)::uuid, '{table} ' || n, now(), now()
      from generate_series(0, %s - 1) n
"""
_MEMBERS = """
    insert into directory.group_members
           (connection_id, group_id, member_id, member_type, first_seen_at, changed_at)
    select 1, md5('groups' || g)::uuid, md5('users' || u)::uuid, 'user', now(), now()
      from (select distinct g, abs(hashint8(g * 1000000 + n)) %% %s as u
              from generate_series(0::bigint, %s - 1) g, generate_series(1::bigint, %s) n) m
     order by 2, 3
"""
_NESTED = """
    insert into directory.group_members
           (connection_id, group_id, member_id, member_type, first_seen_at, changed_at)
    select 1, md5('groups' || e.outer_no)::uuid, md5('groups' || e.inner_no)::uuid, 'group',
           now(), now()
      from unnest(%s::int[], %s::int[]) e(outer_no, inner_no)
        on conflict do nothing
"""


def build_edges(groups: int) -> list[tuple[int, int]]:
    """Return groups in groups, outer and inner: ten deep, some with two parents, some cycles."""
    chance, width = random.Random(18), groups // LEVELS
    parents: dict[int, int] = {}
    edges = set()
    for inner in range(width, groups):
        above = (inner // width - 1) * width
        parents[inner] = above + chance.randrange(width)
        edges.add((parents[inner], inner))
        if chance.random() < 0.2:
            edges.add((above + chance.randrange(width), inner))
    for inner in chance.sample(range(width * 4, groups), max(2, groups // 1000)):
        above = inner
        for _ in range(3):
            above = parents[above]
        edges.add((inner, above))
    return sorted(edges)


def run(bench: Bench) -> None:
    """Fill the tables as a first load would, then build the closure and ask."""
    users = bench.pick(full=100_000, quick=10_000, tiny=200)
    groups = bench.pick(full=20_000, quick=2_000, tiny=60)
    members = bench.pick(full=100, quick=50, tiny=5)
    environment = bench.environment
    base = environment.clone(environment.migrated_url)
    edges = build_edges(groups)
    for statement, *values in (
        (_CONNECTION,),
        (_STREAM,),
        (_OBJECTS.format(table="users"), users),
        (_OBJECTS.format(table="groups"), groups),
        (_MEMBERS, users, groups, members),
        (_NESTED, [outer for outer, _ in edges], [inner for _, inner in edges]),
        ("analyze",),
    ):
        environment.query(base, statement, *values)
    asked = {"users": _list_users(bench, base, users)}
    for _ in bench.iterate_rounds():
        with environment.use_clone(base) as url:
            _record(bench, environment.run_measured("benchmarks.children.nesting", asked, url))
    stored = "select count(*) from directory.group_members"
    count = environment.query(base, stored)[0][0]
    bench.add_note(
        f"{users:,} users, {groups:,} groups, {count:,} memberships, of which {len(edges):,} are of"
        f" groups; the groups asked for are the {QUESTIONS} that contain the most groups"
    )
    environment.drop(base)


def _list_users(bench: Bench, url: str, count: int) -> list[str]:
    numbers = [number * count // QUESTIONS for number in range(QUESTIONS)]
    statement = "select md5('users' || n)::uuid::text from unnest(%s::int[]) n"
    return [one for (one,) in bench.environment.query(url, statement, numbers)]


def _record(bench: Bench, figures: dict[str, Any]) -> None:
    bench.record(BUILD, figures["build"], "s", figures, more_is_better=False)
    bench.record(AGAIN, figures["again"], "s", more_is_better=False)
    bench.record(SIZE, figures["bytes"] / max(1, figures["pairs"]), "bytes", more_is_better=False)
    bench.add_note(f"{figures['pairs']:,} pairs, {figures['depth']} deep")
    for line, name in ((NESTED, "change of a group"), (OTHER, "change of a user")):
        bench.record(line, figures[name]["median"], "ms", figures[name], more_is_better=False)
    for line, name in ((USER, "user"), (GROUP, "group"), (IS_IN, "is in"), (TENANT, "tenant")):
        _record_question(bench, line, figures, name)
        _record_question(bench, f"{line}, with paths", figures, f"{name} with paths")


def _record_question(bench: Bench, line: str, figures: dict[str, Any], name: str) -> None:
    for who, key in ((None, f"ours, {name}"), (RECURSIVE, f"recursive, {name}")):
        if found := figures.get(key):
            more = {} if who is None else {"who": who}
            bench.record(line, found["median"], "ms", found, more_is_better=False, **more)


SCENARIO = Scenario(
    "nesting",
    "groups in groups",
    run,
    targets=(
        SpeedTarget(USER, at_most=200),
        SpeedTarget(GROUP, at_most=200),
        SpeedTarget(IS_IN, at_most=5),
        SpeedTarget(TENANT, at_most=60_000),
    ),
)
