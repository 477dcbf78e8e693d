"""Parents whose members Graph shows only with an extra permission, such as some groups.

Without the permission Graph does not refuse but returns no members, which looks like a group that
has lost all of them. ``Edge.hidden_by`` says which parents these are; edges without it need none of
this.
"""

from collections.abc import Collection
from typing import Any, Final

from models.resource import Resource
from worker.rows.copy_format import encode_array
from worker.store.engine import get_driver_connection
from worker.store.lease import Transaction
from worker.store.mirror.edge_sql import render_for_edge
from worker.store.planner import prefer_hash_joins

_ZERO: Final = "00000000-0000-0000-0000-000000000000"

_HIDING = """
    with losing as materialized (
         select distinct split_part(key, '/', 1) as id from sync.removals
          where connection_id = %(id)s and resource = {edge} and not held),
    hidden as materialized (
         select losing.id::uuid as id from losing
          cross join lateral (
                select 1 from {parents}
                 where connection_id = %(id)s and id = losing.id::uuid and deleted_at is null
                   and {hidden_column} = %(hiding)s
                 limit 1) as found
          where not exists (
                select from sync.removals r
                 where r.connection_id = %(id)s and r.resource = {parent_resource} and not r.held
                   and r.key = losing.id))
"""
# An announced removal whose member is announced as deleted too is explained, and left out.
_UNEXPLAINED = """
    (r.reason is null or r.reason = 'not_seen' or not exists (
                select from sync.removals m
                 where m.connection_id = %(id)s and m.resource in ({member_ends})
                   and m.key = {member}::text and not m.held))
"""
_LOST = (
    _HIDING
    + """,
    member as materialized (
         select m.{parent}, m.{parent}::text || '/' || m.{member}::text as key, m.{member}
           from hidden
           join {edges} m
             on m.connection_id = %(id)s and m.{parent} = hidden.id and m.deleted_at is null),
    judged as (
         select member.key, r.reason is not null and r.reason <> 'not_seen' as announced,
                bool_and(r.key is not null) over (partition by member.{parent}) as emptied
           from member
           left join sync.removals r
             on r.connection_id = %(id)s and r.resource = {edge} and r.key = member.key
          where """
    + _UNEXPLAINED
    + ")"
)
_ANY_LOSING = _HIDING + " select exists (select from hidden)"
_HOLD_EMPTIED = (
    _LOST
    + """
    update sync.removals r set held = true from judged
     where r.connection_id = %(id)s and r.resource = {edge} and r.key = judged.key
       and judged.emptied and not (%(kept)s and judged.announced)
"""
)
_LOSING = """
    select g.id::text
      from (select distinct split_part(key, '/', 1)::uuid as id from sync.candidates
             where connection_id = %(id)s and resource = {edge}) as losing
      join {parents} g
        on g.connection_id = %(id)s and g.id = losing.id and g.deleted_at is null
       and g.{hidden_column} = %(hiding)s
     where not exists (
           select from sync.candidates c
            where c.connection_id = %(id)s and c.resource = {parent_resource}
              and c.key = g.id::text)
"""
# A parent is not emptied if one of its members is neither a candidate nor a removal.
_KEEPING = """
    select distinct m.{parent}::text from {edges} m
     where m.connection_id = %(id)s and m.{parent} = any(%(parents)s::text::uuid[])
       and m.deleted_at is null
       and not exists (
           select from sync.candidates c
            where c.connection_id = %(id)s and c.resource = {edge}
              and c.key = m.{parent}::text || '/' || m.{member}::text)
       and not exists (
           select from sync.removals r
            where r.connection_id = %(id)s and r.resource = {edge}
              and r.key = m.{parent}::text || '/' || m.{member}::text)
"""
_MARK = (
    """
    with chosen as materialized (
         select {parent}, {member}, {parent}::text || '/' || {member}::text as key
           from {edges} t
           left join sync.removals r
             on r.connection_id = %(id)s and r.resource = {edge}
            and r.key = {parent}::text || '/' || {member}::text
          where t.connection_id = %(id)s and {parent} = any(%(parents)s::text::uuid[])
            and ({parent}, {member}) > (%(parent)s, %(member)s) and deleted_at is null
            and """
    + _UNEXPLAINED
    + """
          order by {parent}, {member} limit %(limit)s),
    marked as (
         insert into sync.candidates (connection_id, resource, key, walk_id, hidden)
         select %(id)s, {edge}, key, %(walk)s, true from chosen
             on conflict (connection_id, resource, key) do update set hidden = true)
    select key, (select count(*) from chosen) from chosen
     order by {parent} desc, {member} desc limit 1
"""
)
_SEEN = """
    with hidden as materialized (
         select id::text from {parents}
          where connection_id = %(id)s and deleted_at is null and {hidden_column} = %(hiding)s)
    select exists (
        select from sync.seen s cross join lateral unnest(s.keys) as k(key)
          join hidden on hidden.id = split_part(k.key, '/', 1)
         where s.connection_id = %(id)s and s.resource = {edge}
           and s.walk_id = %(walk)s)
"""
_KEPT = """
    select exists (
        select from {parents} g
          join {edges} m
            on m.connection_id = g.connection_id and m.{parent} = g.id and m.deleted_at is null
         where g.connection_id = %(id)s and g.deleted_at is null
           and g.{hidden_column} = %(hiding)s
           and not exists (
               select from sync.removals r
                where r.connection_id = g.connection_id and r.resource = {edge}
                  and r.key = m.{parent}::text || '/' || m.{member}::text)
           and not exists (
               select from sync.removals r
                where r.connection_id = g.connection_id and r.resource in ({ends})
                  and r.key in (m.{parent}::text, m.{member}::text)))
"""
_ONLY_HIDDEN_HELD = """
    select count(*) > 0 and bool_and(g.id is not null) from sync.removals r
      left join {parents} g
        on g.connection_id = r.connection_id and g.id = split_part(r.key, '/', 1)::uuid
       and g.{hidden_column} = %(hiding)s
     where r.connection_id = %(id)s and r.resource = {edge} and r.held
"""
_RELEASE = """
    update sync.removals set held = false
     where connection_id = %(id)s and resource = {edge} and held and reason <> 'not_seen'
"""
_HELD = """
    select count(*) > 0 and bool_and(g.id is not null) from sync.removals r
      left join {parents} g
        on g.connection_id = r.connection_id and g.id = split_part(r.key, '/', 1)::uuid
       and g.{hidden_column} = %(hiding)s
     where r.connection_id = %(id)s and r.resource = {edge} and r.held
"""
_RELEASE = """
    update sync.removals set held = false
     where connection_id = %(id)s and resource = {edge} and held and reason <> 'not_seen'
"""
_HOLD = """
    update sync.removals set held = true
     where connection_id = %(id)s and resource = %s and key = any(%s::text::text[])
"""
_HELD = """
    select count(distinct g.id), count(*) from sync.removals r
      join {parents} g
        on g.connection_id = r.connection_id and g.id = split_part(r.key, '/', 1)::uuid
       and g.{hidden_column} = %(hiding)s and g.deleted_at is null
     where r.connection_id = %(id)s and r.resource = {edge} and r.held
"""
_AMONG = """
    select k.id::text from unnest(%(parents)s::text::uuid[]) as k(id)
     cross join lateral (
           select {hidden_column} from {parents}
            where connection_id = %(id)s and id = k.id limit 1) as found
     where found.{hidden_column} = %(hiding)s
"""


def find_hiding_parents(tx: Transaction, edge: Resource, parents: Collection[str]) -> set[str]:
    """Return those of the given parents whose members are hidden."""
    if edge.hidden_by is None:
        return set()
    rows = _fetch(tx, edge, _AMONG, parents=encode_array(list(parents)))
    return {row[0] for row in rows}


def list_emptied_parents(tx: Transaction, edge: Resource, walk_id: int) -> list[str]:
    """Return the hiding parents that a sweep would leave without any member.

    Counts staged candidates and waiting ``sync.removals`` as deleted. Parents that are deleted
    themselves do not count. Returns none if the walk saw any hidden member.
    """
    prefer_hash_joins(tx.db)
    losing = {row[0] for row in _fetch(tx, edge, _LOSING)}
    if not losing or _select_boolean(tx, edge, _SEEN, walk=walk_id):
        return []
    keeping = _fetch(tx, edge, _KEEPING, parents=encode_array(sorted(losing)))
    return sorted(losing - {row[0] for row in keeping})


def mark_hidden_candidates(
    tx: Transaction,
    edge: Resource,
    parents: Collection[str],
    walk_id: int,
    *,
    after: str | None,
    limit: int,
) -> str | None:
    """Mark the next edges of such parents as hidden candidates, which are to be held.

    Skips announced removals whose member is announced as deleted too. Returns the last key, or None
    if there were fewer than ``limit``.
    """
    parent, _, member = (after or f"{_ZERO}/{_ZERO}").partition("/")
    values = {"walk": walk_id, "parent": parent, "member": member, "limit": limit}
    rows = _fetch(tx, edge, _MARK, parents=encode_array(sorted(parents)), **values)
    return rows[0][0] if rows and rows[0][1] == limit else None


def hold_emptying_removals(tx: Transaction, edge: Resource) -> bool:
    """Hold removals that would empty hiding parents, and return whether any were held.

    Uses the rule of ``list_emptied_parents``, but only ``sync.removals``. Announced removals are
    not held while any hiding parent keeps a member. Those with reason ``not_seen`` still are,
    because a stored member does not prove that the list was complete.
    """
    if edge.hidden_by is None or not _select_boolean(tx, edge, _ANY_LOSING):
        return False
    kept = _select_boolean(tx, edge, _KEPT)
    return _execute(tx, edge, _HOLD_EMPTIED, kept=kept) > 0


def release_announced_removals(tx: Transaction, edge: Resource) -> bool:
    """Release held announced removals once a hiding parent keeps a member; return whether any were.

    Does nothing if edges of other parents are held too: those were too many, and an operator
    decides about all of them.
    """
    if edge.hidden_by is None or not _select_boolean(tx, edge, _ONLY_HIDDEN_HELD):
        return False
    return _select_boolean(tx, edge, _KEPT) and _execute(tx, edge, _RELEASE) > 0


def count_held_hidden(tx: Transaction, edge: Resource) -> tuple[int, int]:
    """Return how many hiding parents have held edges, and how many edges are held."""
    rows = _fetch(tx, edge, _HELD)
    return (rows[0][0], rows[0][1]) if rows else (0, 0)


def _select_boolean(tx: Transaction, edge: Resource, template: str, **values: Any) -> bool:
    rows = _fetch(tx, edge, template, **values)
    return bool(rows and rows[0][0])


def _fetch(tx: Transaction, edge: Resource, template: str, **values: Any) -> list[tuple[Any, ...]]:
    with get_driver_connection(tx.db).cursor() as cursor:
        cursor.execute(render_for_edge(template, edge), _build_values(tx, edge, values))
        return cursor.fetchall()


def _execute(tx: Transaction, edge: Resource, template: str, **values: Any) -> int:
    with get_driver_connection(tx.db).cursor() as cursor:
        cursor.execute(render_for_edge(template, edge), _build_values(tx, edge, values))
        return cursor.rowcount


def _build_values(tx: Transaction, edge: Resource, values: dict[str, Any]) -> dict[str, Any]:
    assert edge.hidden_by is not None, "nothing of it is hidden"
    return {"id": tx.connection_id, "hiding": edge.hidden_by.value, **values}
