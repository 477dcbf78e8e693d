"""Deletion of objects with any number of memberships, a bounded number per transaction.

Memberships end before their group or member: in batches, each with its events in its own fenced
transaction, the last batch together with the object's tombstone. After an interruption the deletion
continues with the memberships that are still live. If the object turns out to exist, its ended
memberships (reason ``cascade``) are checked with Graph again.
"""

from collections.abc import Mapping
from typing import Final

import sqlalchemy as sa

from models.base import DIRECTORY
from models.resource import Resource
from models.resources import EDGE_ENDS
from worker.rows.copy_format import encode_array
from worker.store.engine import get_driver_connection
from worker.store.lease import Transaction
from worker.store.mirror.change import Change
from worker.store.mirror.deletions import delete_objects, drop_ended_removals
from worker.store.mirror.edges import EDGE, build_edge_deletion
from worker.store.planner import prefer_hash_joins

EDGE_BATCH: Final = 2_000
"""Memberships that end in one transaction."""

_ZERO: Final = "00000000-0000-0000-0000-000000000000"

# Groups are read along the key from the end of the previous batch. Otherwise each batch would read
# all memberships of a large group that have already ended.
_SOME = f"""
    (select member.group_id, member.member_id
       from unnest(%(groups)s::text::uuid[]) with ordinality as k(id, number)
      cross join lateral (
            select group_id, member_id from directory.group_members
             where connection_id = %(owner)s and group_id = k.id and deleted_at is null
               and member_id >= case when k.number = 1 then %(place)s::uuid
                                     else '{_ZERO}'::uuid end
             order by member_id limit {EDGE_BATCH}) as member
      limit {EDGE_BATCH})
     union all
    (select member.group_id, member.member_id
       from unnest(%(members)s::text::uuid[]) as k(id)
      cross join lateral (
            select group_id, member_id from directory.group_members
             where connection_id = %(owner)s and member_id = k.id and deleted_at is null
             limit {EDGE_BATCH}) as member
      limit {EDGE_BATCH})
      limit {EDGE_BATCH}
"""
_COUNT = f"select count(*) from ({_SOME}) as chosen"
_END = f"""
    with chosen as materialized ({_SOME})
    update directory.group_members t
       set deleted_at = %(moment)s, deleted_reason = 'cascade', changed_at = %(moment)s
      from chosen
     where t.connection_id = %(owner)s and t.group_id = chosen.group_id
       and t.member_id = chosen.member_id and t.deleted_at is null
 returning t.group_id, t.member_id, t.member_type
"""

_COUNT_HELD = f"""
    with held as materialized (
         select resource, key from sync.removals
          where connection_id = %(id)s and held),
    ended as materialized (select key::uuid as id from held where resource = any(%(ends)s))
    select count(*)
      from (select group_id, member_id from {DIRECTORY}.{EDGE.name}
             where connection_id = %(id)s and deleted_at is null
               and group_id in (select id from ended)
             union
            select group_id, member_id from {DIRECTORY}.{EDGE.name}
             where connection_id = %(id)s and deleted_at is null
               and member_id in (select id from ended)) as going
     where not exists (select from held
                        where held.resource = %(edge)s
                          and held.key = going.group_id || '/' || going.member_id)
"""

# One index probe per membership: without statistics the planner may read the whole table.
_FORCE_PROBES = b"set local enable_hashjoin = off; set local enable_mergejoin = off"
_RESET_PLANNER = b"set local enable_hashjoin to default; set local enable_mergejoin to default"


def count_held_cascade(db: sa.Connection, connection_id: int) -> dict[str, int]:
    """Return how many edges would end with the held objects, other than held ones, by resource."""
    prefer_hash_joins(db)
    values = {"id": connection_id, "ends": sorted(EDGE_ENDS), "edge": EDGE.name}
    with get_driver_connection(db).cursor() as cursor:
        row = cursor.execute(_COUNT_HELD.encode(), values).fetchone()
    return {EDGE.name: row[0]} if row and row[0] else {}


class BatchedDeletion:
    """Deletes objects of one resource, over as many transactions as their memberships need."""

    def __init__(self, resource: Resource) -> None:
        self._resource = resource
        self._cursor = (_ZERO, _ZERO)

    def advance(
        self, tx: Transaction, reasons: Mapping[str, str]
    ) -> tuple[list[tuple[Resource, list[Change]]], bool]:
        """Delete the given keys (key to reason); return the changes, and whether all are deleted.

        If not, only some of their memberships have ended: commit, and call this again.
        """
        if self._resource.name in EDGE_ENDS and (edges := self._end_batch(tx, reasons)):
            drop_ended_removals(tx, edges)
            return [(EDGE, edges)], False
        return delete_objects(tx, self._resource, reasons) if reasons else [], True

    def _end_batch(self, tx: Transaction, reasons: Mapping[str, str]) -> list[Change]:
        """End ``EDGE_BATCH`` memberships, and return the changes.

        Ends none if fewer are live: those end together with their objects.
        """
        ids = sorted(reasons)
        group, member = self._cursor
        left = [one for one in ids if one >= group]
        values = {
            "groups": encode_array(left),
            "members": encode_array(ids),
            "place": member if group in reasons else _ZERO,
            "owner": tx.connection_id,
            "moment": tx.moment,
        }
        with get_driver_connection(tx.db).cursor() as cursor:
            found = cursor.execute(_COUNT, values).fetchone()
            if not found or found[0] < EDGE_BATCH:
                return []
            cursor.execute(_FORCE_PROBES)
            ended = cursor.execute(_END, values).fetchall()
            cursor.execute(_RESET_PLANNER)
        reached = [(g, m) for g, m, _ in ended if g in reasons]
        self._cursor = max([self._cursor, *reached])
        return [build_edge_deletion((g, m), kind) for g, m, kind in ended]
