"""Fills the tables of one customer by SQL, as a first load would, with groups in groups."""

import random
from dataclasses import dataclass
from typing import Final

from benchmarks.environment import Environment

LEVELS: Final = 10

_CONNECTION: Final = """
    insert into sync.connections
           (nango_connection_id, provider_config_key, provider, display_name)
    values ('contoso', 'key', 'microsoft', 'Contoso')
"""
_STREAM: Final = """
    insert into sync.streams (connection_id, resource, phase) values (1, 'groups', 'delta')
"""
_OBJECTS: Final = """
    insert into directory.{table} (connection_id, id, display_name, first_seen_at, changed_at)
    select 1, md5('{table}' || n)::uuid, '{table} ' || n, now(), now()
      from generate_series(0, %s - 1) n
"""
_MEMBERS: Final = """
    insert into directory.group_members
           (connection_id, group_id, member_id, member_type, first_seen_at, changed_at)
    select 1, md5('groups' || g)::uuid, md5('users' || u)::uuid, 'user', now(), now()
      from (select distinct g, abs(hashint8(g * 1000000 + n)) %% %s as u
              from generate_series(0::bigint, %s - 1) g, generate_series(1::bigint, %s) n) m
     order by 2, 3
"""
_NESTED: Final = """
    insert into directory.group_members
           (connection_id, group_id, member_id, member_type, first_seen_at, changed_at)
    select 1, md5('groups' || e.outer_no)::uuid, md5('groups' || e.inner_no)::uuid, 'group',
           now(), now()
      from unnest(%s::int[], %s::int[]) e(outer_no, inner_no)
        on conflict do nothing
"""


@dataclass(frozen=True)
class DirectorySize:
    """How many objects there are, and how many users are drawn for each group."""

    users: int
    groups: int
    members: int


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


def create_directory(environment: Environment, size: DirectorySize) -> str:
    """Return the URL of a database whose connection 1 has a directory of this size."""
    url = environment.clone(environment.migrated_url)
    edges = build_edges(size.groups)
    for statement, *values in (
        (_CONNECTION,),
        (_STREAM,),
        (_OBJECTS.format(table="users"), size.users),
        (_OBJECTS.format(table="groups"), size.groups),
        (_MEMBERS, size.users, size.groups, size.members),
        (_NESTED, [outer for outer, _ in edges], [inner for _, inner in edges]),
        ("analyze",),
    ):
        environment.query(url, statement, *values)
    return url


def count_memberships(environment: Environment, url: str) -> dict[str, int]:
    """Return the numbers of memberships by the type of the member."""
    found = environment.query(
        url, "select member_type, count(*) from directory.group_members group by 1"
    )
    return {str(kind): int(count) for kind, count in found}
