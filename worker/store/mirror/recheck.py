"""Edges and members to check with Graph again, because deltas do not report all changes."""

from functools import cache

from models.base import DIRECTORY
from models.resource import OWNER, Resource
from models.resources import list_member_resources
from models.unresolved import PartKind
from worker.store.engine import get_driver_connection
from worker.store.lease import Transaction
from worker.store.mirror.edge_sql import render_for_edge
from worker.store.mirror.edges import Pair
from worker.store.planner import prefer_hash_joins

RECHECK_BATCH = 2000
"""Edges that are checked in one run, or read at a time for one parent."""

FULL_SCAN_EVENTS = 5000
"""Number of new events above which the whole table is searched, not only their rows."""

_RECENT = """
       and (e.{parent}, e.{member}) in (
           select split_part(object_id, '/', 1)::uuid, split_part(object_id, '/', 2)::uuid
             from events.change_events
            where connection_id = %(id)s and seq > %(since)s and resource = {edge}
              and change in ('created', 'restored') and after is not null)
"""
_RESTORED_UNSEEN = f"""
    select e.object_id from events.change_events e
      join sync.streams s on s.connection_id = e.connection_id and s.resource = {{parent_resource}}
     where e.connection_id = %(id)s and e.seq > %(since)s and e.resource = %(members)s
       and e.change = 'created' and not e.initial
       and (e.after ->> 'created_date_time')::timestamptz < s.first_complete_at
     limit {RECHECK_BATCH}
"""


@cache
def _render_endpoints_live(edge: Resource, off: frozenset[str] = frozenset()) -> str:
    """Return the condition that an ended edge has two live ends; of those ``off`` none is known."""
    parent, member, kind = edge.column_names
    cases = " ".join(
        f"""
           when '{one.member_type}' then exists (select from {DIRECTORY}.{one.name} m
                where m.connection_id = e.connection_id and m.id = e.{member}
                  and deleted_at is null)"""
        for one in list_member_resources(edge)
        if one.name not in off
    )
    return f"""
       e.connection_id = %(id)s and e.deleted_reason = 'cascade'
       and exists (select from {DIRECTORY}.{edge.parent} p
            where p.connection_id = e.connection_id and p.id = e.{parent} and deleted_at is null)
       and case e.{kind} when '' then true {cases}
           else true end
    """


@cache
def _render_returned(edge: Resource, off: frozenset[str]) -> str:
    parent = edge.key[0]
    return f"""
        select {", ".join(edge.column_names)} from {DIRECTORY}.{edge.name} e
         where {_render_endpoints_live(edge, off)}
           and not exists (select from sync.unresolved n
                where n.connection_id = e.connection_id and n.resource = '{edge.name}'
                  and n.kind = '{PartKind.MEMBERS}' and n.key = e.{parent}::text)
         limit {RECHECK_BATCH}
    """


@cache
def _render_returned_members(edge: Resource) -> str:
    parent, member = edge.key
    return f"""
        select {member} from {DIRECTORY}.{edge.name} e
         where {_render_endpoints_live(edge)}
           and {parent} = %(parent)s and {member} > %(after)s
         order by {member} limit {RECHECK_BATCH}
    """


@cache
def _render_unknown_members(edge: Resource, off: frozenset[str], *, few: bool) -> str:
    """Return a query with an anti-join for each type: a case would be evaluated per edge."""
    parent, member, kind = edge.column_names
    recent = render_for_edge(_RECENT, edge) if few else ""
    parts = " union all ".join(
        f"""
        select e.{parent}, e.{member}, e.{kind}
          from {DIRECTORY}.{edge.name} e
         where e.connection_id = %(id)s and e.deleted_at is null
           and e.{kind} = '{one.member_type}'
           and not exists (select from {DIRECTORY}.{one.name} m
                where m.connection_id = e.connection_id and m.id = e.{member}) {recent}
        """
        for one in list_member_resources(edge)
        if one.name not in off
    )
    return f"{parts} limit {RECHECK_BATCH}"


def list_restored_endpoint_edges(
    tx: Transaction, edge: Resource, off: frozenset[str] = frozenset()
) -> dict[Pair, str]:
    """Return edges that ended by ``cascade`` and whose two endpoints are live again.

    Members of the resources that are ``off`` have no rows: they count as live.
    Skips parents whose members Graph did not show: such a parent is read completely.
    """
    with get_driver_connection(tx.db).cursor() as cursor:
        cursor.execute(_render_returned(edge, off), {"id": tx.connection_id})
        return {(parent_id, member_id): kind for parent_id, member_id, kind in cursor.fetchall()}


def list_restored_endpoint_members(
    tx: Transaction, edge: Resource, parent: str, after: str
) -> tuple[list[str], str | None]:
    """Return some such members of one parent, and the key to continue after; None at the end."""
    values = {"id": tx.connection_id, "parent": parent, "after": after}
    with get_driver_connection(tx.db).cursor() as cursor:
        cursor.execute(_render_returned_members(edge), values)
        members = [row[0] for row in cursor.fetchall()]
    return members, members[-1] if len(members) == RECHECK_BATCH else None


def list_unknown_member_edges(
    tx: Transaction, edge: Resource, since: int, off: frozenset[str] = frozenset()
) -> dict[Pair, str]:
    """Return live edges of members that should be mirrored and are not.

    Such a member will arrive soon, or was deleted before it was mirrored: its edge came first, and
    Graph does not report its end. Only edges with events after ``since`` are checked, so that the
    cost depends on the number of changes. Members of resources that are ``off`` are not expected.
    """
    if all(one.name in off for one in list_member_resources(edge)):
        return {}
    few = tx.seq - since <= FULL_SCAN_EVENTS
    if not few:
        prefer_hash_joins(tx.db)
    with get_driver_connection(tx.db).cursor() as cursor:
        values = {"id": tx.connection_id, "since": since}
        cursor.execute(_render_unknown_members(edge, off, few=few), values)
        return {(parent_id, member_id): kind for parent_id, member_id, kind in cursor.fetchall()}


def list_restored_unseen_members(tx: Transaction, edge: Resource, since: int) -> list[str]:
    """Return members that are new here but older than the first load: restored, never seen before.

    Graph does not always report the restored edges of such a member; ``Edge`` names its resource.
    """
    if edge.edge is None or not edge.edge.unreported_after_restore:
        return []
    members = edge.edge.unreported_after_restore
    with get_driver_connection(tx.db).cursor() as cursor:
        values = {"id": tx.connection_id, "since": since, "members": members}
        cursor.execute(render_for_edge(_RESTORED_UNSEEN, edge), values)
        return [row[0] for row in cursor.fetchall()]


def list_live_keys_below(tx: Transaction, resource: Resource, parent: str) -> list[str]:
    """Return the keys of the live objects that are listed below an object of another resource."""
    assert resource.partition is not None, "only lists below other objects have a parent"
    statement = (
        f"select {resource.key[0]}::text from {DIRECTORY}.{resource.name} where {OWNER} = %s"
        f" and {resource.partition.name} = %s::{resource.partition.type.sql}"
        " and deleted_at is null"
    )
    with get_driver_connection(tx.db).cursor() as cursor:
        cursor.execute(statement, (tx.connection_id, parent))
        return [row[0] for row in cursor.fetchall()]
