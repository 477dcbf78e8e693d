"""Rows of a closure: computed from the edges in Python, and only differences are written."""

from collections.abc import Collection, Iterable, Iterator, Sequence
from functools import cache
from itertools import groupby
from operator import itemgetter
from typing import Any, Final, NamedTuple

import sqlalchemy as sa

from models.base import DIRECTORY
from models.closure import get_closure_name, get_nested_type
from models.resource import OWNER, Resource
from worker.rows.copy_format import encode_array
from worker.store.copy import copy_lines
from worker.store.engine import get_driver_connection
from worker.store.mirror.edge_sql import render_for_edge
from worker.store.mirror.reach import Graph, Reach, build_graph, find_reach

WRITE_BATCH: Final = 10_000
"""Rows that are written together."""

READ_BATCH: Final = 5_000
"""Rows that are read at a time."""


class Written(NamedTuple):
    """The pairs of the outer parents that were written, and how many more they are than before."""

    total: int
    more: int


class _Statements(NamedTuple):
    edges: str
    count_edges: str
    edges_below: str
    outers: str
    stored: str
    stored_of: str
    count_of: str
    delete: str
    drop: str


@cache
def _build_statements(edge: Resource) -> _Statements:
    table, outer = f"{DIRECTORY}.{get_closure_name(edge)}", edge.key[0]
    nested = f"connection_id = %s and {{type}} = '{get_nested_type(edge)}' and deleted_at is null"
    columns = f"{outer}, inner_id, depth, via_id"
    of = f"connection_id = %s and {outer} = any(%s::text::uuid[])"
    return _Statements(
        render_for_edge(f"select {{parent}}, {{member}} from {{edges}} where {nested}", edge),
        render_for_edge(f"select count(*) from {{edges}} where {nested}", edge),
        render_for_edge(
            f"""
            with recursive below (id) as (
                 select unnest(%s::text::uuid[])
                  union
                 select m.{{member}} from below cross join lateral (
                        select {{member}} from {{edges}}
                         where {{parent}} = below.id and {nested}) as m)
            select m.* from below cross join lateral (
                   select {{parent}}, {{member}} from {{edges}}
                    where {{parent}} = below.id and {nested}) as m
            """,
            edge,
        ),
        f"select distinct {outer} from {table}"
        " where connection_id = %s and inner_id = any(%s::text::uuid[])",
        f"select {columns} from {table} where connection_id = %s order by {outer}",
        f"select {columns} from {table} where {of} order by {outer}",
        f"select count(*) from {table} where {of}",
        f"""
        delete from {table} t
         using unnest(%s::text::uuid[], %s::text::uuid[]) as k(outer_id, inner_id)
         where t.connection_id = %s and t.{outer} = k.outer_id and t.inner_id = k.inner_id
        """,
        f"delete from {table} where connection_id = %s",
    )


def load_graph(
    db: sa.Connection, connection_id: int, edge: Resource, outers: Collection[str] | None = None
) -> dict[str, list[str]]:
    """Return the graph of a connection's nested edges; with ``outers``, what lies in those."""
    statements = _build_statements(edge)
    if outers is None:
        return build_graph(_stream(db, statements.edges, (connection_id,)))
    values = (encode_array(list(outers)), connection_id, connection_id)
    return build_graph(_fetch(db, statements.edges_below, values))


def find_outers(
    db: sa.Connection, connection_id: int, edge: Resource, parents: Collection[str]
) -> set[str]:
    """Return some parents and all that contain them, by the closure as it is stored."""
    values = (connection_id, encode_array(list(parents)))
    found = _fetch(db, _build_statements(edge).outers, values)
    return {*parents, *(outer for (outer,) in found)}


def count_stored(
    db: sa.Connection, connection_id: int, edge: Resource, outers: Collection[str]
) -> int:
    """Return how many pairs are stored of some outer parents."""
    values = (connection_id, encode_array(list(outers)))
    return int(_fetch(db, _build_statements(edge).count_of, values)[0][0])


def count_nested_edges(db: sa.Connection, connection_id: int, edge: Resource) -> int:
    """Return how many edges of a connection are nested."""
    return int(_fetch(db, _build_statements(edge).count_edges, (connection_id,))[0][0])


def drop_rows(db: sa.Connection, connection_id: int, edge: Resource) -> None:
    """Delete all pairs of a connection."""
    with get_driver_connection(db).cursor() as cursor:
        cursor.execute(_build_statements(edge).drop, (connection_id,))


def iterate_stored(
    db: sa.Connection, connection_id: int, edge: Resource, outers: Collection[str] | None = None
) -> Iterator[tuple[str, dict[str, Reach]]]:
    """Yield each outer parent that has stored pairs, with these; all, or some of them."""
    statements, values = _build_statements(edge), (connection_id,)
    rows = (
        _stream(db, statements.stored, values)
        if outers is None
        else _stream(db, statements.stored_of, (*values, encode_array(list(outers))))
    )
    for outer, some in groupby(rows, itemgetter(0)):
        yield outer, {inner: (depth, via) for _, inner, depth, via in some}


def write_differences(
    db: sa.Connection,
    connection_id: int,
    edge: Resource,
    graph: Graph,
    outers: Collection[str] | None = None,
) -> Written:
    """Make the stored pairs of some outer parents, or of all, those of the graph."""
    writer = _Writer(db, connection_id, edge)
    left = set(graph if outers is None else outers)
    for outer, stored in iterate_stored(db, connection_id, edge, outers):
        left.discard(outer)
        writer.add(outer, stored, find_reach(graph, outer))
    for outer in sorted(left):
        writer.add(outer, {}, find_reach(graph, outer))
    writer.flush()
    return Written(writer.total, writer.more)


class _Writer:
    """Collects the rows that are gone and new, and writes them in batches."""

    def __init__(self, db: sa.Connection, connection_id: int, edge: Resource) -> None:
        self._db, self._connection_id, self._edge = db, connection_id, edge
        self._gone: list[tuple[str, str]] = []
        self._lines: list[bytes] = []
        self.total = self.more = 0

    def add(self, outer: str, stored: dict[str, Reach], wanted: dict[str, Reach]) -> None:
        self.total += len(wanted)
        self.more += len(wanted) - len(stored)
        if stored == wanted:
            return
        self._gone += [(outer, inner) for inner, way in stored.items() if wanted.get(inner) != way]
        head = f"{self._connection_id}\t{outer}\t"
        self._lines += [
            f"{head}{inner}\t{depth}\t{via}\n".encode()
            for inner, (depth, via) in wanted.items()
            if stored.get(inner) != (depth, via)
        ]
        if len(self._gone) + len(self._lines) >= WRITE_BATCH:
            self.flush()

    def flush(self) -> None:
        if self._gone:
            columns = [encode_array([pair[side] for pair in self._gone]) for side in (0, 1)]
            with get_driver_connection(self._db).cursor() as cursor:
                values = (*columns, self._connection_id)
                cursor.execute(_build_statements(self._edge).delete, values)
        if self._lines:
            names = (OWNER, self._edge.key[0], "inner_id", "depth", "via_id")
            copy_lines(self._db, DIRECTORY, get_closure_name(self._edge), names, self._lines)
        self._gone, self._lines = [], []


def _fetch(db: sa.Connection, statement: str, values: Sequence[Any]) -> list[tuple[Any, ...]]:
    with get_driver_connection(db).cursor() as cursor:
        cursor.execute(statement, values)
        return cursor.fetchall()


def _stream(db: sa.Connection, statement: str, values: Sequence[Any]) -> Iterable[Any]:
    """Yield the rows of a statement, of which only a batch is in memory."""
    with get_driver_connection(db).cursor(name="closure") as cursor:
        cursor.itersize = READ_BATCH
        cursor.execute(statement, values)
        yield from cursor
