"""Staging of a sweep's deletion candidates in ``sync.candidates``, never in memory.

Candidates are the live rows that a complete walk did not see, and the removals that the same round
announced. They are staged in batches; large numbers take several transactions. Leftovers of an
interrupted sweep are cleared first, except which objects a read by id has found during this walk.
"""

from functools import cache
from typing import Any, Final, NamedTuple

from models.base import DIRECTORY
from models.resource import OWNER, Resource
from worker.rows.copy_format import encode_array
from worker.store.lease import Transaction
from worker.store.mirror.edges import parse_edge_key
from worker.store.mirror.hidden_membership import list_emptied_parents, mark_hidden_candidates
from worker.store.planner import prefer_hash_joins
from worker.store.sql import (
    OF_RESOURCE,
    execute_for_resource,
    fetch_for_resource,
    get_next_key,
)
from worker.store.state.erasures import list_ids_being_erased
from worker.store.state.quarantine import list_quarantined_keys
from worker.store.state.unresolved import SweepExclusions, load_sweep_exclusions
from worker.store.sweep.seen import WALK_KEYS

STAGING_BATCH: Final = 100_000
"""Candidates that are staged, or held, in one transaction.

Each batch reads all keys that the walk saw once, however many there are.
"""

_ANY = f"""
    select exists (select from sync.candidates where {OF_RESOURCE}),
           exists (select from sync.removals where {OF_RESOURCE})
"""
_CLEAR = f"""
    with old as materialized (
         select key from sync.candidates
          where {OF_RESOURCE} and not (found and walk_id = %(walk)s) limit %(limit)s)
    delete from sync.candidates c using old where {OF_RESOURCE} and c.key = old.key
"""
_ANNOUNCE = f"""
    with chosen as materialized (
         select key, reason from sync.removals
          where {OF_RESOURCE} and not held and key > %(after)s order by key limit %(limit)s),
    noted as (
         insert into sync.candidates (connection_id, resource, key, walk_id, announced)
         select %(id)s, %(resource)s, key, %(walk)s, reason from chosen
             on conflict (connection_id, resource, key) do update
            set announced = excluded.announced)
    select key, (select count(*) from chosen) from chosen order by key desc limit 1
"""
_COUNT = f"""
    select count(*) filter (where announced is null and not hidden),
           count(*) filter (where announced is not null and hidden),
           count(*) filter (where not hidden and not found),
           count(*) filter (where hidden),
           count(*) filter (where not hidden and not found
                                  and coalesce(announced, 'not_seen') = 'not_seen')
      from sync.candidates where {OF_RESOURCE}
"""


class CandidateCounts(NamedTuple):
    """Counts of a resource's candidates."""

    unexplained: int
    """Candidates that no round announced, without the last memberships of hidden groups."""
    announced_hidden: int
    """Last memberships of hidden groups that a round announced."""
    to_delete: int
    """Candidates that would be deleted."""
    hidden: int
    """Last memberships of hidden groups."""
    unconfirmed: int
    """Candidates that would be deleted only because the walk did not see them."""


NO_CANDIDATES: Final = CandidateCounts(0, 0, 0, 0, 0)


class KeptApart(NamedTuple):
    """Which rows that no sweep judges there may be; those that there are none of are not read."""

    quarantined: bool = True
    """Malformed objects of the resource, or of the parents of its edges."""
    unresolved: bool = True
    """Parts that Graph gives no answer for."""
    erasing: bool = True
    """Objects that are being erased."""


NO_WALK: Final = -1
"""A number that no walk has: nothing is kept when candidates are cleared."""


class Staging:
    """Stages the candidates of one resource, over as many transactions as necessary.

    Stage parents before their edges. Mostly there is nothing to stage, and little is asked then.
    """

    def __init__(
        self,
        resource: Resource,
        walk_id: int,
        limit: int = STAGING_BATCH,
        kept_apart: KeptApart = KeptApart(),  # noqa: B008 (a tuple, which nothing changes)
    ) -> None:
        self.resource, self._walk_id, self._limit = resource, walk_id, limit
        self._kept_apart = kept_apart
        self.has_candidates = self.has_removals = True
        """Whether the resource has any, or had before; known once all are staged."""
        self._cursor: str | None = None
        self._emptied_parents: list[str] | None = None
        self._steps = [self._look, self._clear, self._stage_unseen, self._stage_announced]
        if resource.hidden_by:
            self._steps.append(self._mark_hidden)

    @property
    def is_empty(self) -> bool:
        """Whether the resource has neither candidates nor removals, and had none before."""
        return not (self.has_candidates or self.has_removals)

    def advance(self, tx: Transaction) -> bool:
        """Stage the next batch. Return whether all are staged; if not, commit and call again."""
        while self._steps:
            if not self._steps[0](tx):
                return False
            self._steps.pop(0)
            self._cursor = None
        return True

    def _look(self, tx: Transaction) -> bool:
        (found,) = fetch_for_resource(tx, _ANY, self.resource.name)
        self.has_candidates, self.has_removals = found
        return True

    def _clear(self, tx: Transaction) -> bool:
        if not self.has_candidates:
            return True
        return clear_candidates(tx, self.resource, self._walk_id, self._limit) < self._limit

    def _stage_unseen(self, tx: Transaction) -> bool:
        staged = stage_unseen(
            tx,
            self.resource,
            self._walk_id,
            self._cursor,
            self._limit,
            kept_apart=self._kept_apart,
        )
        return self._note_staged(staged)

    def _stage_announced(self, tx: Transaction) -> bool:
        if not self.has_removals:
            return True
        values = {"walk": self._walk_id, "after": self._cursor or "", "limit": self._limit}
        return self._note_staged(fetch_for_resource(tx, _ANNOUNCE, self.resource.name, **values))

    def _note_staged(self, staged: list[tuple[Any, ...]]) -> bool:
        self.has_candidates = self.has_candidates or bool(staged)
        self._cursor = get_next_key(staged, self._limit)
        return self._cursor is None

    def _mark_hidden(self, tx: Transaction) -> bool:
        edge, walk_id = self.resource, self._walk_id
        if self._emptied_parents is None:
            self._emptied_parents = list_emptied_parents(tx, edge, walk_id)
            self.has_candidates = self.has_candidates or bool(self._emptied_parents)
        if self._emptied_parents:
            self._cursor = mark_hidden_candidates(
                tx,
                edge,
                self._emptied_parents,
                walk_id,
                after=self._cursor,
                limit=self._limit,
            )
        return self._cursor is None


def clear_candidates(tx: Transaction, resource: Resource, walk_id: int, limit: int) -> int:
    """Delete candidates, except those found by id in this walk, and return how many."""
    return execute_for_resource(tx, _CLEAR, resource, walk=walk_id, limit=limit)


@cache
def _render_unseen(
    resource: Resource, *, after: bool, exclusions: bool, parent_candidates: bool
) -> str:
    """Return the statement. It compares keys as text, as stored: parsing them costs more."""
    columns = [f"t.{name}" for name in resource.key]
    texts = [f"{column}::text" for column in columns]
    key, order = " || '/' || ".join(texts), ", ".join(columns)
    where = ""
    if after:
        kinds = [column.type.sql for column in resource.key_columns]
        place = ", ".join(f"%({name})s::{kind}" for name, kind in zip("ab", kinds, strict=False))
        where += f" and ({order}) > ({place})"
    if exclusions:
        where += _render_exclusion(texts[0], "apart")
        if resource.is_edge:
            where += _render_exclusion(texts[1], "erasing")
        if resource.partition:
            where += _render_exclusion(f"t.{resource.partition.name}::text", "parts")
    if parent_candidates:
        where += f"""
           and not exists (select from sync.candidates p
                where p.connection_id = %(id)s and p.resource = '{resource.parent}'
                  and p.key = {texts[0]})"""
    back = order.replace("t.", "").replace(",", " desc,")
    return f"""
        with chosen as materialized (
             select {order}, {key} as key from {DIRECTORY}.{resource.name} t
              where t.{OWNER} = %(id)s and t.deleted_at is null
                and not exists (select from ({WALK_KEYS}) as s where s.key = {key}){where}
              order by {order} limit %(limit)s),
        noted as (
             insert into sync.candidates (connection_id, resource, key, walk_id, unseen)
             select %(id)s, %(resource)s, key, %(walk)s, true from chosen
                 on conflict (connection_id, resource, key) do update set unseen = true)
        select key, (select count(*) from chosen) from chosen order by {back} desc limit 1
    """


def _render_exclusion(column: str, keys: str) -> str:
    return f"""
           and not exists (select from unnest(%({keys})s::text::text[]) as a(key)
                where a.key = {column})"""


def stage_unseen(
    tx: Transaction,
    resource: Resource,
    walk_id: int,
    after: str | None,
    limit: int,
    *,
    kept_apart: KeptApart,
) -> list[tuple[Any, ...]]:
    """Stage the next live rows that a complete walk did not see.

    Return the last one's key and their number, or nothing if there are none. Malformed objects
    count as seen, and so do objects that are being erased (a walk stores nothing of them) or that
    Graph does not answer for. Edges of parents that are candidates are skipped: they end with
    their parents, which may have any number of members.
    """
    prefer_hash_joins(tx.db)
    malformed, unanswered, erasing = set[str](), SweepExclusions(set(), set()), frozenset[str]()
    if kept_apart.quarantined:
        malformed = list_quarantined_keys(tx, resource.parent or resource.name)
    if kept_apart.unresolved:
        unanswered = load_sweep_exclusions(tx, resource)
    if kept_apart.erasing:
        erasing = list_ids_being_erased(tx.db, tx.connection_id)
    apart = malformed | unanswered.keys | erasing
    values = {
        "apart": encode_array(sorted(apart)),
        "erasing": encode_array(sorted(erasing)),
        "parts": encode_array(sorted(unanswered.parts)),
        "walk": walk_id,
        "limit": limit,
        **_build_cursor(resource, after),
    }
    statement = _render_unseen(
        resource,
        after=after is not None,
        exclusions=bool(apart or unanswered.parts),
        parent_candidates=resource.is_edge and _has_candidates(tx, resource.parent),
    )
    return fetch_for_resource(tx, statement, resource.name, **values)


def _build_cursor(resource: Resource, after: str | None) -> dict[str, str]:
    if after is None or not resource.is_edge:
        return {"a": after or ""}
    return dict(zip("ab", parse_edge_key(after), strict=True))


def _has_candidates(tx: Transaction, resource: str) -> bool:
    statement = f"select exists (select from sync.candidates where {OF_RESOURCE})"
    return bool(fetch_for_resource(tx, statement, resource)[0][0])


def count_candidates(tx: Transaction, resource: Resource) -> CandidateCounts:
    """Return the counts, once all candidates are staged."""
    return CandidateCounts(*fetch_for_resource(tx, _COUNT, resource.name)[0])
