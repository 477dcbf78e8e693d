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
    select r.key, r.reason <> 'not_seen' and exists (
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
    tx: Transaction, missing: Iterable[str] = (), ending: Collection[str] = ()
) -> list[str]:
    """The live memberships of hidden groups that would lose all of them at once.

    What goes is what waits in ``sync.removals``, and the ``missing`` memberships. Groups that go
    as a whole do not count: those of which that is announced, and those ``ending``. Nor does what
    Graph announces of members that it says are deleted: that explains it.
    """
    missing = list(missing)
    with driver(tx.connection).cursor() as cursor:
        cursor.execute(_LOSING, (tx.connection_id,))
        losing = {row[0] for row in cursor.fetchall()} | {pair_of(key)[0] for key in missing}
        losing.difference_update(ending)
        chosen = array_literal(sorted(losing))
        cursor.execute(_HIDDEN, (chosen, tx.connection_id, HIDDEN, tx.connection_id))
        hidden = {row[0] for row in cursor.fetchall()}
        if not hidden:
            return []
        some = array_literal(sorted(hidden))
        cursor.execute(_ANNOUNCED, (tx.connection_id, some))
        going = dict(cursor.fetchall())
        explained = {key for key, is_explained in going.items() if is_explained}
        going |= {key: False for key in missing if pair_of(key)[0] in hidden}
        cursor.execute(_MEMBERS, (tx.connection_id, some))
        members = [row[0] for row in cursor.fetchall() if row[0] not in explained]
    keeping = {pair_of(key)[0] for key in members if key not in going}
    return [key for key in members if pair_of(key)[0] not in keeping]


def hold_these(tx: Transaction, resource: Resource, keys: Iterable[str]) -> None:
    """Have the given removals wait for an operator."""
    with driver(tx.connection).cursor() as cursor:
        cursor.execute(_HOLD, (tx.connection_id, resource.name, array_literal(list(keys))))


def held_hidden(tx: Transaction) -> tuple[int, int]:
    """How many hidden groups have memberships that wait for an operator, and how many those are."""
    with driver(tx.connection).cursor() as cursor:
        row = cursor.execute(_HELD, (HIDDEN, tx.connection_id)).fetchone()
    return (row[0], row[1]) if row else (0, 0)
