"""Deletion of objects with any number of edges, a bounded number per transaction.

Edges end before their parent or member: in batches, each with its events in its own fenced
transaction, the last batches together with the object's tombstone. After an interruption the
deletion continues with the edges that are still live. If the object turns out to exist, its ended
edges (reason ``cascade``) are checked with Graph again.
"""

from collections.abc import Mapping
from functools import cache
from typing import Final

import sqlalchemy as sa

from models.base import DIRECTORY
from models.resource import Resource
from models.resources import EDGES, EDGES_OF, EdgeEnd
from worker.rows.copy_format import encode_array
from worker.store.engine import get_driver_connection
from worker.store.lease import Transaction
from worker.store.mirror.change import Change
from worker.store.mirror.deletions import delete_objects, drop_ended_removals
from worker.store.mirror.edge_sql import render_for_edge
from worker.store.mirror.edges import build_edge_deletion
from worker.store.mirror.nesting import note_ended_edges
from worker.store.planner import prefer_hash_joins

EDGE_BATCH: Final = 2_000
"""Edges of a resource that end in one transaction."""

_ZERO: Final = "00000000-0000-0000-0000-000000000000"

_END = """
    update {edges} t
       set deleted_at = %(moment)s, deleted_reason = 'cascade', changed_at = %(moment)s
      from chosen
     where t.connection_id = %(owner)s and t.{parent} = chosen.{parent}
       and t.{member} = chosen.{member} and t.deleted_at is null
 returning t.{parent}, t.{member}, t.{type}
"""

_COUNT_HELD = """
    with held as materialized (
         select resource, key from sync.removals
          where connection_id = %(id)s and held),
    ended as materialized (select key::uuid as id from held where resource in ({ends}))
    select count(*)
      from (select {parent}, {member} from {edges}
             where connection_id = %(id)s and deleted_at is null
               and {parent} in (select id from ended)
             union
            select {parent}, {member} from {edges}
             where connection_id = %(id)s and deleted_at is null
               and {member} in (select id from ended)) as going
     where not exists (select from held
                        where held.resource = {edge}
                          and held.key = going.{parent} || '/' || going.{member})
"""

# One index probe per edge: without statistics the planner may read the whole table.
_FORCE_PROBES = b"set local enable_hashjoin = off; set local enable_mergejoin = off"
_RESET_PLANNER = b"set local enable_hashjoin to default; set local enable_mergejoin to default"


def count_held_cascade(db: sa.Connection, connection_id: int) -> dict[str, int]:
    """Return how many edges would end with the held objects, other than held ones, by resource."""
    prefer_hash_joins(db)
    counts: dict[str, int] = {}
    for edge in EDGES:
        with get_driver_connection(db).cursor() as cursor:
            cursor.execute(render_for_edge(_COUNT_HELD, edge), {"id": connection_id})
            row = cursor.fetchone()
        if row and row[0]:
            counts[edge.name] = row[0]
    return counts


@cache
def _render_some(end: EdgeEnd) -> str:
    """Return a query of at most ``EDGE_BATCH`` live edges of some ends.

    Parents are read along the key from the end of the previous batch. Otherwise each batch would
    read all edges of a large parent that have already ended.
    """
    edges, (parent, member) = f"{DIRECTORY}.{end.edge.name}", end.edge.key
    of_parents = f"""
        (select one.{parent}, one.{member}
           from unnest(%(parents)s::text::uuid[]) with ordinality as k(id, number)
          cross join lateral (
                select {parent}, {member} from {edges}
                 where connection_id = %(owner)s and {parent} = k.id and deleted_at is null
                   and {member} >= case when k.number = 1 then %(place)s::uuid
                                        else '{_ZERO}'::uuid end
                 order by {member} limit {EDGE_BATCH}) as one
          limit {EDGE_BATCH})
    """
    of_members = f"""
        (select one.{parent}, one.{member}
           from unnest(%(members)s::text::uuid[]) as k(id)
          cross join lateral (
                select {parent}, {member} from {edges}
                 where connection_id = %(owner)s and {member} = k.id and deleted_at is null
                 limit {EDGE_BATCH}) as one
          limit {EDGE_BATCH})
    """
    by_column = {parent: of_parents, member: of_members}
    some = " union all ".join(by_column[column] for column in end.columns)
    return f"select * from ({some}) as found limit {EDGE_BATCH}"


@cache
def _render_count(end: EdgeEnd) -> str:
    return f"select count(*) from ({_render_some(end)}) as chosen"


@cache
def _render_end(end: EdgeEnd) -> str:
    ending = render_for_edge(_END, end.edge)
    return f"with chosen as materialized ({_render_some(end)}) {ending}"


class BatchedDeletion:
    """Deletes objects of one resource, over as many transactions as their edges need."""

    def __init__(self, resource: Resource) -> None:
        self._resource = resource
        self._ends = EDGES_OF.get(resource.name, ())
        self._cursors = {end.edge.name: (_ZERO, _ZERO) for end in self._ends}

    def advance(
        self, tx: Transaction, reasons: Mapping[str, str]
    ) -> tuple[list[tuple[Resource, list[Change]]], bool]:
        """Delete the given keys (key to reason); return the changes, and whether all are deleted.

        If not, only some of their edges have ended: commit, and call this again.
        """
        for end in self._ends:
            if edges := self._end_batch(tx, end, reasons):
                drop_ended_removals(tx, end.edge, edges)
                return [(end.edge, edges)], False
        return delete_objects(tx, self._resource, reasons) if reasons else [], True

    def _end_batch(self, tx: Transaction, end: EdgeEnd, reasons: Mapping[str, str]) -> list[Change]:
        """End ``EDGE_BATCH`` edges of one resource, and return the changes.

        Ends none if fewer are live: those end together with their objects.
        """
        ids, edge = sorted(reasons), end.edge
        parent, member = self._cursors[edge.name]
        left = [one for one in ids if one >= parent]
        values = {
            "parents": encode_array(left),
            "members": encode_array(ids),
            "place": member if parent in reasons else _ZERO,
            "owner": tx.connection_id,
            "moment": tx.moment,
        }
        with get_driver_connection(tx.db).cursor() as cursor:
            found = cursor.execute(_render_count(end), values).fetchone()
            if not found or found[0] < EDGE_BATCH:
                return []
            cursor.execute(_FORCE_PROBES)
            ended = cursor.execute(_render_end(end), values).fetchall()
            cursor.execute(_RESET_PLANNER)
        note_ended_edges(tx, edge, ended)
        reached = [(p, m) for p, m, _ in ended if p in reasons]
        self._cursors[edge.name] = max([self._cursors[edge.name], *reached])
        return [build_edge_deletion(edge, (p, m), kind) for p, m, kind in ended]
