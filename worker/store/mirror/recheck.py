"""Memberships and users to check with Graph again, because deltas do not report all changes."""

from typing import Final

from worker.store.engine import get_driver_connection
from worker.store.lease import Transaction
from worker.store.mirror.edges import Pair
from worker.store.planner import prefer_hash_joins

RECHECK_BATCH = 2000
"""Memberships that are checked in one run, or read at a time for one group."""

FULL_SCAN_EVENTS = 5000
"""Number of new events above which the whole table is searched, not only their rows."""

_ENDPOINTS_LIVE: Final = """
       e.connection_id = %(id)s and e.deleted_reason = 'cascade'
       and exists (select from directory.groups g
            where g.connection_id = e.connection_id and g.id = e.group_id and deleted_at is null)
       and case e.member_type
           when 'user' then exists (select from directory.users u
                where u.connection_id = e.connection_id and u.id = e.member_id
                  and deleted_at is null)
           when 'group' then exists (select from directory.groups m
                where m.connection_id = e.connection_id and m.id = e.member_id
                  and deleted_at is null)
           else true end
"""
_RETURNED = f"""
    select e.group_id, e.member_id, e.member_type
      from directory.group_members e
     where {_ENDPOINTS_LIVE}
       and not exists (select from sync.unresolved n
            where n.connection_id = e.connection_id and n.resource = 'groups'
              and n.kind = 'members' and n.key = e.group_id::text)
     limit {RECHECK_BATCH}
"""
_RETURNED_MEMBERS = f"""
    select member_id from directory.group_members e
     where {_ENDPOINTS_LIVE} and group_id = %(group)s and member_id > %(after)s
     order by member_id limit {RECHECK_BATCH}
"""
# One anti-join for each type: a case expression in one query would be evaluated per edge.
_UNKNOWN_MEMBERS = " union all ".join(
    f"""
    select e.group_id, e.member_id, e.member_type
      from directory.group_members e
     where e.connection_id = %(id)s and e.deleted_at is null and e.member_type = '{kind}'
       and not exists (select from directory.{kind}s m
            where m.connection_id = e.connection_id and m.id = e.member_id) {{recent}}
    """
    for kind in ("user", "group")
)
_RECENT = """
       and (e.group_id, e.member_id) in (
           select split_part(object_id, '/', 1)::uuid, split_part(object_id, '/', 2)::uuid
             from events.change_events
            where connection_id = %(id)s and seq > %(since)s and resource = 'group_members'
              and change in ('created', 'restored') and after is not null)
"""
_RESTORED_UNSEEN_USERS = f"""
    select e.object_id from events.change_events e
      join sync.streams s on s.connection_id = e.connection_id and s.resource = 'groups'
     where e.connection_id = %s and e.seq > %s and e.resource = 'users'
       and e.change = 'created' and not e.initial
       and (e.after ->> 'created_date_time')::timestamptz < s.first_complete_at
     limit {RECHECK_BATCH}
"""


def list_restored_endpoint_edges(tx: Transaction) -> dict[Pair, str]:
    """Return memberships that ended by ``cascade`` and whose two endpoints are live again.

    Skips groups whose members Graph did not show: such a group is read completely.
    """
    with get_driver_connection(tx.db).cursor() as cursor:
        cursor.execute(_RETURNED, {"id": tx.connection_id})
        return {(group_id, member_id): kind for group_id, member_id, kind in cursor.fetchall()}


def list_restored_endpoint_members(
    tx: Transaction, group: str, after: str
) -> tuple[list[str], str | None]:
    """Return some such members of one group, and the key to continue after; None at the end."""
    values = {"id": tx.connection_id, "group": group, "after": after}
    with get_driver_connection(tx.db).cursor() as cursor:
        cursor.execute(_RETURNED_MEMBERS, values)
        members = [row[0] for row in cursor.fetchall()]
    return members, members[-1] if len(members) == RECHECK_BATCH else None


def list_unknown_member_edges(tx: Transaction, since: int) -> dict[Pair, str]:
    """Return live memberships of users and groups that are not mirrored.

    Such a member will arrive soon, or was deleted before it was mirrored: its membership came
    first, and Graph does not report its end. Only memberships with events after ``since`` are
    checked, so that the cost depends on the number of changes.
    """
    few = tx.seq - since <= FULL_SCAN_EVENTS
    statement = f"{_UNKNOWN_MEMBERS.format(recent=_RECENT if few else '')} limit {RECHECK_BATCH}"
    if not few:
        prefer_hash_joins(tx.db)
    with get_driver_connection(tx.db).cursor() as cursor:
        cursor.execute(statement, {"id": tx.connection_id, "since": since})
        return {(group_id, member_id): kind for group_id, member_id, kind in cursor.fetchall()}


def list_restored_unseen_users(tx: Transaction, since: int) -> list[str]:
    """Return users that are new here but older than the first load: restored, never seen before.

    Graph does not always report the restored memberships of such a user.
    """
    with get_driver_connection(tx.db).cursor() as cursor:
        cursor.execute(_RESTORED_UNSEEN_USERS, (tx.connection_id, since))
        return [row[0] for row in cursor.fetchall()]
