"""Groups with hidden membership: Graph shows their members only to who may read hidden ones.

Without the permission Graph does not refuse, it shows no member; that looks like a group that
has lost them all.
"""

from collections.abc import Collection, Iterable
from typing import Final

from models.copy_text import array_literal
from models.resource import Resource
from worker.store.edges import pair_of
from worker.store.engine import driver
from worker.store.lease import Transaction

HIDDEN: Final = "HiddenMembership"

_LOSING = """
    select distinct split_part(key, '/', 1) from sync.removals
     where connection_id = %s and resource = 'group_members' and not held
"""
_HIDDEN = """
    select k.id::text from unnest(%s::text::uuid[]) as k(id)
     cross join lateral (
           select 1 from directory.groups
            where connection_id = %s and id = k.id and deleted_at is null and visibility = %s
            limit 1) as found
     where not exists (
           select from sync.removals r
            where r.connection_id = %s and r.resource = 'groups' and not r.held
              and r.key = k.id::text)
"""
_ANNOUNCED = """
    select r.key, r.reason <> 'not_seen', r.reason <> 'not_seen' and exists (
           select from sync.removals m
            where m.connection_id = r.connection_id and m.resource in ('users', 'groups')
              and m.key = split_part(r.key, '/', 2) and not m.held)
      from sync.removals r
     where r.connection_id = %s and r.resource = 'group_members'
       and split_part(r.key, '/', 1) = any(%s::text::text[])
"""
_MEMBERS = """
    select group_id || '/' || member_id from directory.group_members
     where connection_id = %s and group_id = any(%s::text::uuid[]) and deleted_at is null
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


def emptied_hidden(
    tx: Transaction,
    missing: Iterable[str] = (),
    ending: Collection[str] = (),
    walk_id: int | None = None,
) -> list[str]:
    """The live memberships of hidden groups that would lose all of them at once, to be held.

    What goes is what waits in ``sync.removals``, and the ``missing`` memberships. Groups that go
    as a whole do not count: those of which that is announced, and those ``ending``. Nor does what
    Graph announces of members that it says are deleted: that explains it.

    Nothing is held where the walk ``walk_id`` saw a hidden membership. Without a walk, what Graph
    announced is not held while a hidden group keeps a member; what was only not seen still is,
    because a stored member does not prove that the list was complete.
    """
    missing = list(missing)
    with driver(tx.connection).cursor() as cursor:
        hidden = _losing_hidden(tx, missing, ending)
        if not hidden:
            return []
        some = array_literal(sorted(hidden))
        cursor.execute(_ANNOUNCED, (tx.connection_id, some))
        rows = cursor.fetchall()
        cursor.execute(_MEMBERS, (tx.connection_id, some))
        members = [row[0] for row in cursor.fetchall()]
    announced = {key for key, is_announced, _ in rows if is_announced}
    explained = {key for key, _, is_explained in rows if is_explained}
    going = {row[0] for row in rows} | {key for key in missing if pair_of(key)[0] in hidden}
    members = [key for key in members if key not in explained]
    keeping = {pair_of(key)[0] for key in members if key not in going}
    emptied = [key for key in members if pair_of(key)[0] not in keeping]
    if not emptied:
        return []
    if walk_id is not None:
        return [] if _is_true(tx, _SEEN, walk=walk_id) else emptied
    return [key for key in emptied if key not in announced] if _is_true(tx, _KEPT) else emptied


def _losing_hidden(tx: Transaction, missing: list[str], ending: Collection[str]) -> set[str]:
    with driver(tx.connection).cursor() as cursor:
        cursor.execute(_LOSING, (tx.connection_id,))
        losing = {row[0] for row in cursor.fetchall()} | {pair_of(key)[0] for key in missing}
        losing.difference_update(ending)
        chosen = array_literal(sorted(losing))
        cursor.execute(_HIDDEN, (chosen, tx.connection_id, HIDDEN, tx.connection_id))
        return {row[0] for row in cursor.fetchall()}


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
