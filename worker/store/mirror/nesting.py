"""Keep the closure of nested edges in the transaction that changes one of them.

Functions that write edges note the parents of those that came or went; at the end of the
transaction only the parents that contain one of these are computed again. All of it is computed
where a walk ends or an earlier release has written: see ``sync.streams.nesting_mark``.
"""

from collections.abc import Collection, Iterable, Mapping
from typing import Final, NamedTuple

import sqlalchemy as sa
from sqlalchemy import text

from models.closure import NESTED_EDGES, get_nested_type
from models.resource import Resource
from models.stream import Nesting
from worker.store.lease import Transaction
from worker.store.mirror.closure import (
    count_nested_edges,
    count_stored,
    drop_rows,
    find_outers,
    iterate_stored,
    load_graph,
    write_differences,
)
from worker.store.mirror.reach import Graph, count_pairs, find_reach

MAX_PAIRS: Final = 5_000_000
"""Pairs that are kept of a connection at most: 0.9 GB, and half a minute to write all of them."""

PAIRS_PER_EDGE: Final = 25
"""Pairs that are kept for each nested edge, where there are more than ``FEW_PAIRS``.

A tenant of 20,000 groups, ten deep, has 9. More come only from large cycles and from many groups
with several parents each. There the closure grows with the square of the groups: it would cost more
than the rest of a first load, and more than it saves to walk the edges at each question.
"""

FEW_PAIRS: Final = 100_000
"""Pairs that are always kept: they take half a second to write."""

_STATE = text("""
    select nesting, nesting_pairs, nesting_mark = walk_id || '/' || page_no as is_current
      from sync.streams where connection_id = :id and resource = :resource
""")
_SAVE = text("""
    update sync.streams
       set nesting = :nesting, nesting_pairs = :pairs,
           nesting_at = case when :whole then clock_timestamp() else nesting_at end,
           nesting_mark = walk_id || '/' || page_no
     where connection_id = :id and resource = :resource
""")


class _State(NamedTuple):
    nesting: Nesting | None
    pairs: int
    is_current: bool
    """Whether no earlier release, which knows no closure, has written since."""


def note_nested_edges(tx: Transaction, edge: Resource, parents: Collection[str]) -> None:
    """Note parents of nested edges that this transaction adds or ends."""
    if parents:
        _get_update(tx, edge).parents.update(parents)


def list_nested_parents(edge: Resource, kinds: Mapping[tuple[str, str], str]) -> set[str]:
    """Return the parents of those pairs whose member is a parent itself, by its type."""
    nested = get_nested_type(edge)
    if not nested or nested not in kinds.values():
        return set()
    return {pair[0] for pair, kind in kinds.items() if kind == nested}


def note_ended_edges(
    tx: Transaction, edge: Resource, ended: Iterable[tuple[str, str, str]]
) -> None:
    """Note the nested ones among edges that have ended: parent, member and type."""
    if nested := get_nested_type(edge):
        note_nested_edges(tx, edge, {parent for parent, _, kind in ended if kind == nested})


def note_erased_edges(
    tx: Transaction, edge: Resource, erased: Resource, pairs: Iterable[tuple[str, ...]]
) -> None:
    """Note the edges of an object that is erased, if it can be a parent."""
    if edge in NESTED_EDGES and erased.name == edge.parent:
        note_nested_edges(tx, edge, {pair[0] for pair in pairs})


def compute_nesting(tx: Transaction, edge: Resource) -> None:
    """Compute all of a closure at the end of the transaction."""
    _get_update(tx, edge).is_whole = True


def drop_nesting(tx: Transaction, edge: Resource) -> None:
    """Delete a closure: its edges are going to be removed."""
    if edge in NESTED_EDGES:
        tx.before_commit.pop(_get_name(edge), None)
        drop_rows(tx.db, tx.connection_id, edge)
        _save(tx, edge, None, None, is_whole=True)


class _Update:
    """What is to be computed at the end of a transaction."""

    def __init__(self, edge: Resource) -> None:
        self._edge = edge
        self.parents: set[str] = set()
        self.is_whole = False

    def __call__(self, tx: Transaction) -> None:
        if self.is_whole:
            _compute_all(tx, self._edge)
            return
        state = _load_state(tx.db, tx.connection_id, self._edge)
        if state.nesting is not Nesting.COMPLETE:
            return
        if state.is_current:
            _compute_some(tx, self._edge, self.parents, state.pairs)
        else:
            # What an earlier release has left is of no use, and may name what is erased.
            drop_nesting(tx, self._edge)


def _get_update(tx: Transaction, edge: Resource) -> _Update:
    update = tx.before_commit.setdefault(_get_name(edge), _Update(edge))
    assert isinstance(update, _Update)
    return update


def _get_name(edge: Resource) -> str:
    return f"nesting of {edge.name}"


def _compute_all(tx: Transaction, edge: Resource) -> None:
    graph = load_graph(tx.db, tx.connection_id, edge)
    if _has_more_pairs(graph, graph, get_pair_limit(sum(map(len, graph.values())))):
        _give_up(tx, edge)
    else:
        written = write_differences(tx.db, tx.connection_id, edge, graph)
        _save(tx, edge, Nesting.COMPLETE, written.total, is_whole=True)


def _compute_some(tx: Transaction, edge: Resource, parents: Collection[str], pairs: int) -> None:
    """Compute what contains one of the parents: its way to anything goes through one of them."""
    db, connection_id = tx.db, tx.connection_id
    outers = find_outers(db, connection_id, edge, parents)
    graph = load_graph(db, connection_id, edge, outers)
    if _is_too_large(tx, edge, graph, outers, pairs):
        _give_up(tx, edge)
    else:
        written = write_differences(db, connection_id, edge, graph, outers)
        _save(tx, edge, Nesting.COMPLETE, pairs + written.more, is_whole=False)


def _is_too_large(
    tx: Transaction, edge: Resource, graph: Graph, outers: Collection[str], pairs: int
) -> bool:
    """Whether a change makes too many pairs; edges are counted only where it could."""
    db, connection_id = tx.db, tx.connection_id
    if pairs + _count_possible(graph, outers) <= FEW_PAIRS:
        return False
    limit = get_pair_limit(count_nested_edges(db, connection_id, edge))
    others = pairs - count_stored(db, connection_id, edge, outers)
    return _has_more_pairs(graph, outers, limit - others)


def get_pair_limit(edges: int) -> int:
    """Return how many pairs are kept of a connection with so many nested edges."""
    return min(MAX_PAIRS, max(FEW_PAIRS, PAIRS_PER_EDGE * edges))


def _has_more_pairs(graph: Graph, outers: Collection[str], limit: int) -> bool:
    """Whether some outer parents have more pairs; they are counted only where they could have."""
    return _count_possible(graph, outers) > limit and count_pairs(graph, outers, limit) > limit


def _count_possible(graph: Graph, outers: Collection[str]) -> int:
    """Return a number that the pairs of some outer parents do not exceed, without walking."""
    return len(outers) * len({member for members in graph.values() for member in members})


def _give_up(tx: Transaction, edge: Resource) -> None:
    drop_rows(tx.db, tx.connection_id, edge)
    _save(tx, edge, Nesting.TOO_LARGE, None, is_whole=True)


def count_wrong_pairs(db: sa.Connection, connection_id: int, edge: Resource) -> int:
    """Return how many pairs of a closure are missing, superfluous or not as the edges make them.

    Where the closure is not complete, there should be none.
    """
    state = _load_state(db, connection_id, edge)
    if state.nesting is Nesting.COMPLETE and not state.is_current:
        return 0  # nobody reads it, and the next round computes it
    is_complete = state.nesting is Nesting.COMPLETE
    graph = load_graph(db, connection_id, edge) if is_complete else {}
    wrong, left = 0, set(graph)
    for outer, stored in iterate_stored(db, connection_id, edge):
        left.discard(outer)
        wanted = find_reach(graph, outer)
        wrong += sum(stored.get(one) != wanted.get(one) for one in {*stored, *wanted})
    return wrong + sum(len(find_reach(graph, outer)) for outer in left)


def _load_state(db: sa.Connection, connection_id: int, edge: Resource) -> _State:
    row = db.execute(_STATE, {"id": connection_id, "resource": edge.parent}).one_or_none()
    if row is None or row.nesting is None:
        return _State(None, 0, is_current=False)
    return _State(Nesting(row.nesting), row.nesting_pairs or 0, is_current=bool(row.is_current))


def _save(
    tx: Transaction, edge: Resource, nesting: Nesting | None, pairs: int | None, *, is_whole: bool
) -> None:
    values = {"id": tx.connection_id, "resource": edge.parent, "nesting": nesting, "pairs": pairs}
    tx.db.execute(_SAVE, {**values, "whole": is_whole})
