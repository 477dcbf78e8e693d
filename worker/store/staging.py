"""Staging what a sweep would delete in ``sync.candidates``: no list of it is ever in memory.

Candidates are the live rows that a complete walk did not see, and the removals that a round
announced and that wait for the same end. They are staged some at a time, each time in a transaction
of its own where there are many. What a sweep that was interrupted has left is thrown away first;
only which objects a read by id has found stays, until the walk is over.
"""

from functools import cache
from typing import Final, NamedTuple

from models.base import DIRECTORY
from models.copy_text import array_literal
from models.resource import OWNER, Kind, Resource
from worker.store.candidates import OURS, last_key, rows, run
from worker.store.edges import pair_of
from worker.store.engine import join_by_hash
from worker.store.erasure import being_erased
from worker.store.hidden import emptied_groups, mark_hidden
from worker.store.lease import Transaction
from worker.store.quarantine import quarantined
from worker.store.seen import WALK_KEYS
from worker.store.unresolved import set_apart
from worker.store.writing import sql_type

STAGED: Final = 100_000
"""Candidates that are staged, or noted as held, in one transaction.

The keys that a walk saw are read once for each so many, whatever their number.
"""

_CLEAR = f"""
    with old as materialized (
         select key from sync.candidates
          where {OURS} and not (found and walk_id = %(walk)s) limit %(limit)s)
    delete from sync.candidates c using old where {OURS} and c.key = old.key
"""
_ANNOUNCE = f"""
    with chosen as materialized (
         select key, reason from sync.removals
          where {OURS} and not held and key > %(after)s order by key limit %(limit)s),
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
      from sync.candidates where {OURS}
"""


class Numbers(NamedTuple):
    """How many candidates of a resource there are."""

    unexplained: int
    """Those that no round announced; the last memberships of hidden groups are not among them."""
    announced_hidden: int
    """Last memberships of hidden groups of which a round told."""
    going: int
    """Those that would be deleted."""
    hidden: int
    """Last memberships of hidden groups."""
    doubtful: int
    """Of those that would be deleted, how many were only not seen."""


ALL_WALKS: Final = -1
"""No walk's number: of no walk anything is kept."""


class Staging:
    """Stages the candidates of one resource, over as many transactions as their number needs.

    Those of groups are staged before those of their memberships.
    """

    def __init__(self, resource: Resource, walk_id: int, limit: int = STAGED) -> None:
        self._resource, self._walk, self._limit = resource, walk_id, limit
        self._place: str | None = None
        self._emptied: list[str] | None = None
        self._steps = [self._clear, self._stage_unseen, self._stage_announced]
        if resource.kind is Kind.EDGE:
            self._steps.append(self._mark_hidden)

    def advance(self, tx: Transaction) -> bool:
        """Go on; whether all are staged. Where they are not, commit, and call this again."""
        while self._steps:
            if not self._steps[0](tx):
                return False
            self._steps.pop(0)
            self._place = None
        return True

    def _clear(self, tx: Transaction) -> bool:
        return clear_candidates(tx, self._resource, self._walk, self._limit) < self._limit

    def _stage_unseen(self, tx: Transaction) -> bool:
        self._place = stage_unseen(tx, self._resource, self._walk, self._place, self._limit)
        return self._place is None

    def _stage_announced(self, tx: Transaction) -> bool:
        values = {"walk": self._walk, "after": self._place or "", "limit": self._limit}
        self._place = last_key(rows(tx, _ANNOUNCE, self._resource.name, **values), self._limit)
        return self._place is None

    def _mark_hidden(self, tx: Transaction) -> bool:
        if self._emptied is None:
            self._emptied = emptied_groups(tx, self._walk)
        if self._emptied:
            self._place = mark_hidden(tx, self._emptied, self._walk, self._place, self._limit)
        return self._place is None


def clear_candidates(tx: Transaction, resource: Resource, walk_id: int, limit: int) -> int:
    """Throw candidates away, all but what reads by id found for this walk; how many this time."""
    return run(tx, _CLEAR, resource, walk=walk_id, limit=limit)


@cache
def _unseen(resource: Resource, *, after: bool, apart: bool, parents: bool) -> str:
    """Keys are compared as the texts that they are noted as: that is cheaper than to read them."""
    columns = [f"t.{name}" for name in resource.key]
    texts = [f"{column}::text" for column in columns]
    key, order = " || '/' || ".join(texts), ", ".join(columns)
    where = ""
    if after:
        kinds = [sql_type(column.type) for column in resource.columns[: len(columns)]]
        place = ", ".join(f"%({name})s::{kind}" for name, kind in zip("ab", kinds, strict=False))
        where += f" and ({order}) > ({place})"
    if apart:
        where += _without(texts[0], "apart")
        if resource.kind is Kind.EDGE:
            where += _without(texts[1], "erasing")
        if resource.name == "role_assignments":
            where += _without("t.role_definition_id::text", "definitions")
    if parents:
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


def _without(column: str, keys: str) -> str:
    return f"""
           and not exists (select from unnest(%({keys})s::text::text[]) as a(key)
                where a.key = {column})"""


def stage_unseen(
    tx: Transaction, resource: Resource, walk_id: int, after: str | None, limit: int
) -> str | None:
    """Stage the next live rows, by key, that a complete walk did not see; the last one's key.

    None where there were fewer than ``limit``. Malformed ones count as seen, and so do those that
    are being erased, of which a walk keeps nothing, and what Graph does not answer for.
    Memberships of groups that are candidates themselves are left out: they end with their groups,
    and a large one may have any number of them.
    """
    join_by_hash(tx.connection)
    malformed = quarantined(tx, resource.parent or resource.name)
    unanswered = set_apart(tx, resource)
    erasing = being_erased(tx.connection, tx.connection_id)
    apart = malformed | unanswered.keys | erasing
    values = {
        "apart": array_literal(sorted(apart)),
        "erasing": array_literal(sorted(erasing)),
        "definitions": array_literal(sorted(unanswered.definitions)),
        "walk": walk_id,
        "limit": limit,
        **_place_of(resource, after),
    }
    statement = _unseen(
        resource,
        after=after is not None,
        apart=bool(apart or unanswered.definitions),
        parents=resource.kind is Kind.EDGE and _any(tx, resource.parent),
    )
    return last_key(rows(tx, statement, resource.name, **values), limit)


def _place_of(resource: Resource, after: str | None) -> dict[str, str]:
    if after is None or resource.kind is not Kind.EDGE:
        return {"a": after or ""}
    return dict(zip("ab", pair_of(after), strict=True))


def _any(tx: Transaction, resource: str) -> bool:
    statement = f"select exists (select from sync.candidates where {OURS})"
    return bool(rows(tx, statement, resource)[0][0])


def count_candidates(tx: Transaction, resource: Resource) -> Numbers:
    """How many there are, now that all are staged."""
    return Numbers(*rows(tx, _COUNT, resource.name)[0])
