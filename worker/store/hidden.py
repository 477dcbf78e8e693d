"""Groups with hidden membership: Graph shows their members only to who may read hidden ones.

Without the permission Graph does not refuse, it shows no member; that looks like a group that
has lost them all.
"""

from collections.abc import Collection, Iterable
from typing import Final

from models.copy_text import array_literal
from models.resource import Resource
from worker.store.engine import driver
from worker.store.lease import Transaction

HIDDEN: Final = "HiddenMembership"

_GROUPS = """
    with losing as materialized (
         select split_part(key, '/', 1) as id from sync.removals
          where connection_id = %(id)s and resource = 'group_members' and not held
          union
         select split_part(key, '/', 1) from unnest(%(missing)s::text::text[]) as k(key)),
    hidden as materialized (
         select losing.id::uuid as id from losing
          cross join lateral (
                select 1 from directory.groups
                 where connection_id = %(id)s and id = losing.id::uuid and deleted_at is null
                   and visibility = %(visibility)s
                 limit 1) as found
          where not losing.id = any(%(ending)s::text::text[])
            and not exists (
                select from sync.removals r
                 where r.connection_id = %(id)s and r.resource = 'groups' and not r.held
                   and r.key = losing.id))
"""
# What Graph announces of members that it says are deleted is explained, and left out.
_LOST = f"""
    {_GROUPS},
    member as materialized (
         select m.group_id, m.group_id::text || '/' || m.member_id::text as key, m.member_id
           from hidden
           join directory.group_members m
             on m.connection_id = %(id)s and m.group_id = hidden.id and m.deleted_at is null),
    judged as (
         select member.key, r.reason is not null and r.reason <> 'not_seen' as announced,
                bool_and(r.key is not null or missing.key is not null)
                    over (partition by member.group_id) as emptied
           from member
           left join sync.removals r
             on r.connection_id = %(id)s and r.resource = 'group_members' and r.key = member.key
           left join unnest(%(missing)s::text::text[]) as missing(key) on missing.key = member.key
          where r.reason is null or r.reason = 'not_seen' or not exists (
                select from sync.removals m
                 where m.connection_id = %(id)s and m.resource in ('users', 'groups')
                   and m.key = member.member_id::text and not m.held))
"""
_ANY_LOSING = f"{_GROUPS} select exists (select from hidden)"
_EMPTIED = f"{_LOST} select key from judged where emptied"
_HOLD_EMPTIED = f"""
    {_LOST}
    update sync.removals r set held = true from judged
     where r.connection_id = %(id)s and r.resource = 'group_members' and r.key = judged.key
       and judged.emptied and not (%(kept)s and judged.announced)
"""
_SEEN = """
    with hidden as materialized (
         select id::text from directory.groups
          where connection_id = %(id)s and deleted_at is null and visibility = %(visibility)s)
    select exists (
        select from sync.seen s cross join lateral unnest(s.keys) as k(key)
          join hidden on hidden.id = split_part(k.key, '/', 1)
         where s.connection_id = %(id)s and s.resource = 'group_members'
           and s.walk_id = %(walk)s)
"""
_KEPT = """
    select exists (
        select from directory.groups g
          join directory.group_members m
            on m.connection_id = g.connection_id and m.group_id = g.id and m.deleted_at is null
         where g.connection_id = %(id)s and g.deleted_at is null
           and g.visibility = %(visibility)s
           and not exists (
               select from sync.removals r
                where r.connection_id = g.connection_id and r.resource = 'group_members'
                  and r.key = m.group_id::text || '/' || m.member_id::text)
           and not exists (
               select from sync.removals r
                where r.connection_id = g.connection_id and r.resource in ('users', 'groups')
                  and r.key in (m.group_id::text, m.member_id::text)))
"""
_ONLY_HIDDEN_HELD = """
    select count(*) > 0 and bool_and(g.id is not null) from sync.removals r
      left join directory.groups g
        on g.connection_id = r.connection_id and g.id = split_part(r.key, '/', 1)::uuid
       and g.visibility = %s
     where r.connection_id = %s and r.resource = 'group_members' and r.held
"""
_RELEASE = """
    update sync.removals set held = false
     where connection_id = %s and resource = 'group_members' and held and reason <> 'not_seen'
"""
_HOLD = """
    update sync.removals set held = true
     where connection_id = %s and resource = %s and key = any(%s::text::text[])
"""
_HELD = """
    select count(distinct g.id), count(*) from sync.removals r
      join directory.groups g
        on g.connection_id = r.connection_id and g.id = split_part(r.key, '/', 1)::uuid
       and g.visibility = %s and g.deleted_at is null
     where r.connection_id = %s and r.resource = 'group_members' and r.held
"""
_AMONG = """
    select k.id::text from unnest(%s::text::uuid[]) as k(id)
     cross join lateral (
           select visibility from directory.groups
            where connection_id = %s and id = k.id limit 1) as found
     where found.visibility = %s
"""


def hidden_among(tx: Transaction, groups: Collection[str]) -> set[str]:
    """Those of some groups whose membership is hidden."""
    values = (array_literal(list(groups)), tx.connection_id, HIDDEN)
    with driver(tx.connection).cursor() as cursor:
        return {row[0] for row in cursor.execute(_AMONG, values).fetchall()}


def emptied_hidden(
    tx: Transaction, missing: Collection[str], ending: Collection[str], walk_id: int
) -> list[str]:
    """The live memberships of hidden groups that would lose all of them at once, to be held.

    What goes is what waits in ``sync.removals``, and the ``missing`` memberships. Groups that go
    as a whole do not count: those of which that is announced, and those ``ending``. Nor does what
    Graph announces of members that it says are deleted: that explains it. Nothing is held where
    the walk saw a hidden membership.
    """
    values = _values(tx, missing, ending)
    with driver(tx.connection).cursor() as cursor:
        if cursor.execute(_ANY_LOSING, values).fetchone() == (False,):
            return []
        if _is_true(tx, _SEEN, walk=walk_id):
            return []
        return [row[0] for row in cursor.execute(_EMPTIED, values).fetchall()]


def hold_emptied(tx: Transaction) -> bool:
    """Hold the removals that would leave hidden groups without any member; whether there are any.

    Judged as by ``emptied_hidden``, but by what waits alone, and no row is read into memory. What
    Graph announced is not held while a hidden group keeps a member; what was only not seen still
    is, because a stored member does not prove that the list was complete.
    """
    values = _values(tx)
    with driver(tx.connection).cursor() as cursor:
        if cursor.execute(_ANY_LOSING, values).fetchone() == (False,):
            return False
        kept = _is_true(tx, _KEPT)
        return cursor.execute(_HOLD_EMPTIED, {**values, "kept": kept}).rowcount > 0


def _values(
    tx: Transaction, missing: Collection[str] = (), ending: Collection[str] = ()
) -> dict[str, object]:
    return {
        "id": tx.connection_id,
        "visibility": HIDDEN,
        "missing": array_literal(list(missing)),
        "ending": array_literal(list(ending)),
    }


def _is_true(tx: Transaction, statement: str, **values: int) -> bool:
    with driver(tx.connection).cursor() as cursor:
        cursor.execute(statement, {"id": tx.connection_id, "visibility": HIDDEN, **values})
        row = cursor.fetchone()
    return bool(row and row[0])


def release_announced(tx: Transaction) -> bool:
    """Let held removals that Graph announced be judged again once a hidden group keeps a member.

    Not where memberships of other groups are held too: those were too many, and an operator
    decides about all of them.
    """
    with driver(tx.connection).cursor() as cursor:
        row = cursor.execute(_ONLY_HIDDEN_HELD, (HIDDEN, tx.connection_id)).fetchone()
        if not (row and row[0] and _is_true(tx, _KEPT)):
            return False
        return cursor.execute(_RELEASE, (tx.connection_id,)).rowcount > 0


def hold_these(tx: Transaction, resource: Resource, keys: Iterable[str]) -> None:
    """Have the given removals wait for an operator."""
    with driver(tx.connection).cursor() as cursor:
        cursor.execute(_HOLD, (tx.connection_id, resource.name, array_literal(list(keys))))


def held_hidden(tx: Transaction) -> tuple[int, int]:
    """How many hidden groups have memberships that wait for an operator, and how many those are."""
    with driver(tx.connection).cursor() as cursor:
        row = cursor.execute(_HELD, (HIDDEN, tx.connection_id)).fetchone()
    return (row[0], row[1]) if row else (0, 0)
