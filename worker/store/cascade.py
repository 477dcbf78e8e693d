"""Deleting objects with any number of memberships, a bounded number of these in each transaction.

Memberships end before their group or member does: batch by batch, each with its events in a fenced
transaction of its own, the last batch together with the object's tombstone. After an interruption
the work goes on with what is still live. If the object turns out to exist after all, its ended
memberships (reason ``cascade``) count as doubtful and are asked of Graph again.
"""

from collections.abc import Mapping
from typing import Final

from models.copy_text import array_literal
from models.resource import Kind, Resource
from models.resources.group_members import GROUP_MEMBERS
from worker.store.change import Change
from worker.store.deletions import delete_objects, drop_moot
from worker.store.edges import ended_edge
from worker.store.engine import driver
from worker.store.lease import Transaction

LIMIT: Final = 2_000
"""Memberships that end in one transaction."""

_ZERO: Final = "00000000-0000-0000-0000-000000000000"

# Groups are read along the key from where the batch before ended: in a large group all that is
# dead already would otherwise be read again for each batch.
_SOME = f"""
    (select member.group_id, member.member_id
       from unnest(%(groups)s::text::uuid[]) with ordinality as k(id, number)
      cross join lateral (
            select group_id, member_id from directory.group_members
             where connection_id = %(owner)s and group_id = k.id and deleted_at is null
               and member_id >= case when k.number = 1 then %(place)s::uuid
                                     else '{_ZERO}'::uuid end
             order by member_id limit {LIMIT}) as member
      limit {LIMIT})
     union all
    (select member.group_id, member.member_id
       from unnest(%(members)s::text::uuid[]) as k(id)
      cross join lateral (
            select group_id, member_id from directory.group_members
             where connection_id = %(owner)s and member_id = k.id and deleted_at is null
             limit {LIMIT}) as member
      limit {LIMIT})
      limit {LIMIT}
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

# One index probe a membership: without statistics the planner may read the whole table.
_PROBE = b"set local enable_hashjoin = off; set local enable_mergejoin = off"
_FREE = b"set local enable_hashjoin to default; set local enable_mergejoin to default"


class Deletion:
    """Deletes objects of one resource, over as many transactions as their memberships need."""

    def __init__(self, resource: Resource) -> None:
        self._resource = resource
        self._place = (_ZERO, _ZERO)

    def advance(
        self, tx: Transaction, reasons: Mapping[str, str]
    ) -> tuple[list[tuple[Resource, list[Change]]], bool]:
        """Delete the given keys (key to reason); the changes, and whether all are deleted.

        Where they are not, some of their memberships have ended: commit, and call this again.
        """
        if self._resource.kind is Kind.ENTITY and (edges := self._end_some(tx, reasons)):
            drop_moot(tx, edges)
            return [(GROUP_MEMBERS, edges)], False
        return delete_objects(tx, self._resource, reasons) if reasons else [], True

    def _end_some(self, tx: Transaction, reasons: Mapping[str, str]) -> list[Change]:
        """End ``LIMIT`` memberships; none where fewer are live, which end with their objects."""
        ids = sorted(reasons)
        group, member = self._place
        left = [one for one in ids if one >= group]
        values = {
            "groups": array_literal(left),
            "members": array_literal(ids),
            "place": member if group in reasons else _ZERO,
            "owner": tx.connection_id,
            "moment": tx.moment,
        }
        with driver(tx.connection).cursor() as cursor:
            found = cursor.execute(_COUNT, values).fetchone()
            if not found or found[0] < LIMIT:
                return []
            cursor.execute(_PROBE)
            ended = cursor.execute(_END, values).fetchall()
            cursor.execute(_FREE)
        reached = [(g, m) for g, m, _ in ended if g in reasons]
        self._place = max([self._place, *reached])
        return [ended_edge((g, m), kind) for g, m, kind in ended]
