"""Groups with hidden membership: Graph shows their members only with an extra permission.

Without the permission Graph does not refuse but returns no members, which looks like a group that
has lost all of them.
"""

from collections.abc import Collection
from typing import Final

from worker.rows.copy_format import encode_array
from worker.store.engine import get_driver_connection
from worker.store.lease import Transaction
from worker.store.planner import prefer_hash_joins

HIDDEN_MEMBERSHIP: Final = "HiddenMembership"

_ZERO: Final = "00000000-0000-0000-0000-000000000000"

_GROUPS = """
    with losing as materialized (
         select distinct split_part(key, '/', 1) as id from sync.removals
          where connection_id = %(id)s and resource = 'group_members' and not held),
    hidden as materialized (
         select losing.id::uuid as id from losing
          cross join lateral (
                select 1 from directory.groups
                 where connection_id = %(id)s and id = losing.id::uuid and deleted_at is null
                   and visibility = %(visibility)s
                 limit 1) as found
          where not exists (
                select from sync.removals r
                 where r.connection_id = %(id)s and r.resource = 'groups' and not r.held
                   and r.key = losing.id))
"""
# An announced removal whose member is announced as deleted too is explained, and left out.
_UNEXPLAINED = """
    (r.reason is null or r.reason = 'not_seen' or not exists (
                select from sync.removals m
                 where m.connection_id = %(id)s and m.resource in ('users', 'groups')
                   and m.key = member_id::text and not m.held))
"""
_LOST = f"""
    {_GROUPS},
    member as materialized (
         select m.group_id, m.group_id::text || '/' || m.member_id::text as key, m.member_id
           from hidden
           join directory.group_members m
             on m.connection_id = %(id)s and m.group_id = hidden.id and m.deleted_at is null),
    judged as (
         select member.key, r.reason is not null and r.reason <> 'not_seen' as announced,
                bool_and(r.key is not null) over (partition by member.group_id) as emptied
           from member
           left join sync.removals r
             on r.connection_id = %(id)s and r.resource = 'group_members' and r.key = member.key
          where {_UNEXPLAINED})
"""
_ANY_LOSING = f"{_GROUPS} select exists (select from hidden)"
_HOLD_EMPTIED = f"""
    {_LOST}
    update sync.removals r set held = true from judged
     where r.connection_id = %(id)s and r.resource = 'group_members' and r.key = judged.key
       and judged.emptied and not (%(kept)s and judged.announced)
"""
_LOSING = """
    select g.id::text
      from (select distinct split_part(key, '/', 1)::uuid as id from sync.candidates
             where connection_id = %(id)s and resource = 'group_members') as losing
      join directory.groups g
        on g.connection_id = %(id)s and g.id = losing.id and g.deleted_at is null
       and g.visibility = %(visibility)s
     where not exists (
           select from sync.candidates c
            where c.connection_id = %(id)s and c.resource = 'groups' and c.key = g.id::text)
"""
# A group is not emptied if one of its members is neither a candidate nor a removal.
_KEEPING = """
    select distinct m.group_id::text from directory.group_members m
     where m.connection_id = %(id)s and m.group_id = any(%(groups)s::text::uuid[])
       and m.deleted_at is null
       and not exists (
           select from sync.candidates c
            where c.connection_id = %(id)s and c.resource = 'group_members'
              and c.key = m.group_id::text || '/' || m.member_id::text)
       and not exists (
           select from sync.removals r
            where r.connection_id = %(id)s and r.resource = 'group_members'
              and r.key = m.group_id::text || '/' || m.member_id::text)
"""
_MARK = f"""
    with chosen as materialized (
         select group_id, member_id, group_id::text || '/' || member_id::text as key
           from directory.group_members t
           left join sync.removals r
             on r.connection_id = %(id)s and r.resource = 'group_members'
            and r.key = group_id::text || '/' || member_id::text
          where t.connection_id = %(id)s and group_id = any(%(groups)s::text::uuid[])
            and (group_id, member_id) > (%(group)s, %(member)s) and deleted_at is null
            and {_UNEXPLAINED}
          order by group_id, member_id limit %(limit)s),
    marked as (
         insert into sync.candidates (connection_id, resource, key, walk_id, hidden)
         select %(id)s, 'group_members', key, %(walk)s, true from chosen
             on conflict (connection_id, resource, key) do update set hidden = true)
    select key, (select count(*) from chosen) from chosen
     order by group_id desc, member_id desc limit 1
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


def find_hidden_groups(tx: Transaction, groups: Collection[str]) -> set[str]:
    """Return those of the given groups whose membership is hidden."""
    values = (encode_array(list(groups)), tx.connection_id, HIDDEN_MEMBERSHIP)
    with get_driver_connection(tx.db).cursor() as cursor:
        return {row[0] for row in cursor.execute(_AMONG, values).fetchall()}


def list_emptied_groups(tx: Transaction, walk_id: int) -> list[str]:
    """Return the hidden groups that a sweep would leave without any member.

    Counts staged candidates and waiting ``sync.removals`` as deleted. Groups that are deleted
    themselves do not count. Returns none if the walk saw any hidden membership.
    """
    prefer_hash_joins(tx.db)
    values = {"id": tx.connection_id, "visibility": HIDDEN_MEMBERSHIP}
    with get_driver_connection(tx.db).cursor() as cursor:
        losing = {row[0] for row in cursor.execute(_LOSING, values).fetchall()}
        if not losing or _select_boolean(tx, _SEEN, walk=walk_id):
            return []
        groups = encode_array(sorted(losing))
        cursor.execute(_KEEPING, {"id": tx.connection_id, "groups": groups})
        return sorted(losing - {row[0] for row in cursor.fetchall()})


def mark_hidden_candidates(
    tx: Transaction, groups: Collection[str], walk_id: int, after: str | None, limit: int
) -> str | None:
    """Mark the next memberships of such groups as hidden candidates, which are to be held.

    Skips announced removals whose member is announced as deleted too. Returns the last key, or None
    if there were fewer than ``limit``.
    """
    group, _, member = (after or f"{_ZERO}/{_ZERO}").partition("/")
    values = {
        "id": tx.connection_id,
        "walk": walk_id,
        "groups": encode_array(sorted(groups)),
        "group": group,
        "member": member,
        "limit": limit,
    }
    with get_driver_connection(tx.db).cursor() as cursor:
        row = cursor.execute(_MARK, values).fetchone()
    return row[0] if row and row[1] == limit else None


def hold_emptying_removals(tx: Transaction) -> bool:
    """Hold removals that would empty hidden groups, and return whether any were held.

    Uses the rule of ``list_emptied_groups``, but only ``sync.removals``. Announced removals are not
    held while any hidden group keeps a member. Those with reason ``not_seen`` still are, because a
    stored member does not prove that the list was complete.
    """
    values = {"id": tx.connection_id, "visibility": HIDDEN_MEMBERSHIP}
    with get_driver_connection(tx.db).cursor() as cursor:
        if cursor.execute(_ANY_LOSING, values).fetchone() == (False,):
            return False
        kept = _select_boolean(tx, _KEPT)
        return cursor.execute(_HOLD_EMPTIED, {**values, "kept": kept}).rowcount > 0


def _select_boolean(tx: Transaction, statement: str, **values: int) -> bool:
    with get_driver_connection(tx.db).cursor() as cursor:
        cursor.execute(
            statement, {"id": tx.connection_id, "visibility": HIDDEN_MEMBERSHIP, **values}
        )
        row = cursor.fetchone()
    return bool(row and row[0])


def release_announced_removals(tx: Transaction) -> bool:
    """Release held announced removals once a hidden group keeps a member; return whether any were.

    Does nothing if memberships of other groups are held too: those were too many, and an operator
    decides about all of them.
    """
    with get_driver_connection(tx.db).cursor() as cursor:
        row = cursor.execute(_ONLY_HIDDEN_HELD, (HIDDEN_MEMBERSHIP, tx.connection_id)).fetchone()
        if not (row and row[0] and _select_boolean(tx, _KEPT)):
            return False
        return cursor.execute(_RELEASE, (tx.connection_id,)).rowcount > 0


def count_held_hidden(tx: Transaction) -> tuple[int, int]:
    """Return how many hidden groups have held memberships, and how many memberships are held."""
    with get_driver_connection(tx.db).cursor() as cursor:
        row = cursor.execute(_HELD, (HIDDEN_MEMBERSHIP, tx.connection_id)).fetchone()
    return (row[0], row[1]) if row else (0, 0)
