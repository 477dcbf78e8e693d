"""Storing edges. An edge is live only while neither its parent nor its member is deleted.

An edge that arrives for a deleted endpoint is stored but not live (reason ``cascade``). When the
endpoint returns, its edges are read from Graph again and not restored from stored rows.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import datetime
from functools import cache
from itertools import chain
from typing import NamedTuple

from models.base import DIRECTORY
from models.change_event import ChangeKind
from models.resource import DeletedReason, Resource
from models.resources import list_edge_ends, list_member_resources
from worker.rows.copy_format import NULL, encode_array
from worker.rows.shape import get_shape
from worker.store.engine import get_driver_connection
from worker.store.lease import Transaction
from worker.store.mirror.change import Change
from worker.store.mirror.edge_sql import render_for_edge
from worker.store.mirror.live_since import NOT_OBSERVED, LiveSince
from worker.store.mirror.nesting import (
    list_nested_parents,
    note_ended_edges,
    note_nested_edges,
)
from worker.store.mirror.write import copy_new_lines, update_each

Pair = tuple[str, str]
"""A parent's id and a member's."""

# One index probe per pair: see mirror/merge.py on tables without statistics.
_KNOWN = """
    select found.* from unnest(%s::text::uuid[], %s::text::uuid[]) as k(parent, member)
     cross join lateral (
           select {parent}, {member}, {type}, deleted_at is null, deleted_reason
             from {edges}
            where connection_id = %s and {parent} = k.parent and {member} = k.member
            limit 1) as found
"""
_UPDATE = """
    update {edges}
       set {type} = %s, deleted_at = %s, deleted_reason = %s, changed_at = %s
     where connection_id = %s and {parent} = %s and {member} = %s
"""
_RESTORE = """
    update {edges}
       set {type} = %s, deleted_at = null, deleted_reason = null, changed_at = %s,
           live_since = %s
     where connection_id = %s and {parent} = %s and {member} = %s
"""
_MEMBERS = """
    select {member} from {edges}
     where connection_id = %s and {parent} = %s and {member} > %s and deleted_at is null
     order by {member} limit %s
"""
MEMBERS_BATCH = 2_000
"""Members of a parent that are read at a time."""


class StoredEdge(NamedTuple):
    member_type: str
    is_live: bool
    reason: str | None


def render_edge_key(pair: Pair) -> str:
    """Return the key of an edge in events, seen keys and removals."""
    return f"{pair[0]}/{pair[1]}"


def parse_edge_key(key: str) -> Pair:
    parent_id, _, member_id = key.partition("/")
    return parent_id, member_id


def merge_edges(
    tx: Transaction,
    edge: Resource,
    arriving: Mapping[Pair, str],
    *,
    assume_new: bool = False,
    live_since: LiveSince = NOT_OBSERVED,
) -> list[Change]:
    """Store edges that Graph reports (pair to member type), and return the changes.

    ``assume_new`` inserts all without comparing, for a first load. ``live_since`` gives the time
    since when new ones are live. Raises RowExists if an assumed new one is stored already: the
    transaction is lost and the page must be compared.
    """
    if not arriving:
        return []
    stored = {} if assume_new else load_edges(tx, edge, arriving)
    ended = _find_deleted_endpoints(tx, edge, arriving)
    fresh = {pair: kind for pair, kind in arriving.items() if pair not in stored}
    returning = [pair for pair, old in stored.items() if not old.is_live]
    began = live_since.load_for_members(tx, edge, {parent for parent, _ in (*fresh, *returning)})
    changes = _insert(tx, edge, fresh, ended, began)
    if not assume_new:  # a first load computes the closure at its end
        note_nested_edges(tx, edge, list_nested_parents(edge, fresh))
    build_change = _get_change_builder(edge)
    altered: list[tuple[object, ...]] = []
    revived: list[tuple[object, ...]] = []
    other: dict[Pair, str] = {}
    for pair, old in stored.items():
        kind = _choose_member_type(old, arriving[pair])
        if not ended.isdisjoint(pair):
            if not old.is_live and old.reason != DeletedReason.CASCADE:
                altered.append(
                    (kind, tx.moment, DeletedReason.CASCADE.value, *_build_row_key(tx, pair))
                )
        elif not old.is_live:
            changes.append(build_change(ChangeKind.RESTORED, pair, kind))
            other[pair] = kind
            revived.append((kind, tx.moment, began[pair[0]], tx.connection_id, *pair))
        elif kind != old.member_type:
            changes.append(_build_type_change(edge, pair, old.member_type, kind))
            other[pair] = kind
            note_ended_edges(tx, edge, [(*pair, old.member_type)])
            altered.append((kind, None, None, *_build_row_key(tx, pair)))
    update_each(tx, edge, render_for_edge(_UPDATE, edge), altered)
    update_each(tx, edge, render_for_edge(_RESTORE, edge), revived)
    note_nested_edges(tx, edge, list_nested_parents(edge, other))
    return changes


def _choose_member_type(old: StoredEdge, sent: str) -> str:
    """Return the type of a member; ``other`` does not replace a known type."""
    return old.member_type if sent == "other" else sent


def _build_row_key(tx: Transaction, pair: Pair) -> tuple[object, ...]:
    return (tx.moment, tx.connection_id, *pair)


def _insert(
    tx: Transaction,
    edge: Resource,
    fresh: Mapping[Pair, str],
    ended: set[str],
    began: Mapping[str, datetime | None],
) -> list[Change]:
    """Store new edges, and return changes for those that are live."""
    dead = {pair: kind for pair, kind in fresh.items() if not ended.isdisjoint(pair)}
    live = {pair: kind for pair, kind in fresh.items() if pair not in dead} if dead else fresh
    if fresh:
        lines = chain(
            _render_lines(tx, live, began), _render_lines(tx, dead, began, deleted_endpoint=True)
        )
        copy_new_lines(tx, edge, lines)
    build_change = _get_change_builder(edge)
    return [build_change(ChangeKind.CREATED, pair, kind) for pair, kind in live.items()]


def _render_lines(
    tx: Transaction,
    fresh: Mapping[Pair, str],
    began: Mapping[str, datetime | None],
    *,
    deleted_endpoint: bool = False,
) -> Iterator[bytes]:
    """Return the COPY lines of new edges; not live if an endpoint is deleted."""
    moment = tx.moment.isoformat()
    fate = (moment, DeletedReason.CASCADE.value) if deleted_endpoint else (NULL, NULL)
    owner, rest = tx.connection_id, "\t".join((moment, moment, *fate, NULL, NULL))
    ends = {
        parent_id: f"\t{rest}\t{NULL if at is None or deleted_endpoint else at.isoformat()}\n"
        for parent_id, at in began.items()
    }
    for (parent_id, member_id), member_type in fresh.items():
        yield f"{owner}\t{parent_id}\t{member_id}\t{member_type}{ends[parent_id]}".encode()


def _build_type_change(edge: Resource, pair: Pair, old_type: str, new_type: str) -> Change:
    """Return the change of an edge whose member has another type now."""
    shape, altered = get_shape(edge), [edge.column_names[2]]
    return Change(
        ChangeKind.UPDATED,
        render_edge_key(pair),
        altered,
        shape.encode_columns((*pair, old_type), altered),
        shape.encode_columns((*pair, new_type), altered),
    )


def delete_edges(tx: Transaction, edge: Resource, reasons: Mapping[Pair, str]) -> list[Change]:
    """End edges; unknown ones are ignored, ended ones only get the new reason."""
    if not reasons:
        return []
    changes, altered, ended = [], [], []
    for pair, old in load_edges(tx, edge, reasons).items():
        reason = reasons[pair]
        if old.is_live:
            changes.append(build_edge_deletion(edge, pair, old.member_type))
            ended.append((*pair, old.member_type))
        elif old.reason == reason:
            continue
        altered.append((old.member_type, tx.moment, reason, tx.moment, tx.connection_id, *pair))
    update_each(tx, edge, render_for_edge(_UPDATE, edge), altered)
    note_ended_edges(tx, edge, ended)
    return changes


def end_edges_of(
    tx: Transaction, edge: Resource, columns: Iterable[str], ended: Iterable[str]
) -> list[Change]:
    """End all edges that have one of the given ids in one of the given columns."""
    ids, listed = list(ended), list(columns)
    if not ids:
        return []
    where = " or ".join(f"{column} = any(%s::uuid[])" for column in listed)
    statement = (
        f"update {DIRECTORY}.{edge.name}"
        " set deleted_at = %s, deleted_reason = 'cascade', changed_at = %s"
        f" where connection_id = %s and deleted_at is null and ({where})"
        f" returning {', '.join(edge.column_names)}"
    )
    values = (tx.moment, tx.moment, tx.connection_id, *(ids for _ in listed))
    with get_driver_connection(tx.db).cursor() as cursor:
        cursor.execute(statement, values)
        found = cursor.fetchall()
    note_ended_edges(tx, edge, found)
    return [build_edge_deletion(edge, (p, m), kind) for p, m, kind in found]


def build_edge_deletion(edge: Resource, pair: Pair, member_type: str) -> Change:
    """Return the change of an edge that has ended."""
    return _get_change_builder(edge)(ChangeKind.DELETED, pair, member_type)


def load_edges(tx: Transaction, edge: Resource, pairs: Iterable[Pair]) -> dict[Pair, StoredEdge]:
    """Return the given edges as stored, ended ones included."""
    listed = list(pairs)
    columns = [encode_array([pair[side] for pair in listed]) for side in (0, 1)]
    with get_driver_connection(tx.db).cursor() as cursor:
        cursor.execute(render_for_edge(_KNOWN, edge), (*columns, tx.connection_id))
        return {(row[0], row[1]): StoredEdge(*row[2:]) for row in cursor.fetchall()}


def iterate_live_members(tx: Transaction, edge: Resource, parent_id: str) -> Iterator[list[str]]:
    """Yield the ids of all live members of a parent, ``MEMBERS_BATCH`` at a time, in order."""
    after = "00000000-0000-0000-0000-000000000000"
    while True:
        with get_driver_connection(tx.db).cursor() as cursor:
            values = (tx.connection_id, parent_id, after, MEMBERS_BATCH)
            cursor.execute(render_for_edge(_MEMBERS, edge), values)
            members = [row[0] for row in cursor.fetchall()]
        if members:
            yield members
        if len(members) < MEMBERS_BATCH:
            return
        after = members[-1]


def _find_deleted_endpoints(
    tx: Transaction, edge: Resource, arriving: Mapping[Pair, str]
) -> set[str]:
    """Return the deleted endpoints; members are looked up in the table of their type."""
    with get_driver_connection(tx.db).cursor() as cursor:
        cursor.execute(_render_any_deleted_endpoint(edge), {"id": tx.connection_id})
        if cursor.fetchone() == (False,):
            return set()
    wanted: dict[str, set[str]] = {name: set() for name in list_edge_ends(edge)}
    for one in list_member_resources(edge):
        types = (one.member_type, "other")
        wanted[one.name] = {pair[1] for pair, kind in arriving.items() if kind in types}
    wanted[edge.parent].update(pair[0] for pair in arriving)
    values = {name: encode_array(list(ids)) for name, ids in wanted.items()}
    with get_driver_connection(tx.db).cursor() as cursor:
        cursor.execute(_render_deleted_endpoints(edge), {"id": tx.connection_id, **values})
        return {row[0] for row in cursor.fetchall()}


@cache
def _render_any_deleted_endpoint(edge: Resource) -> str:
    some = " or ".join(
        f"exists (select from {DIRECTORY}.{name}"
        " where connection_id = %(id)s and deleted_at is not null)"
        for name in list_edge_ends(edge)
    )
    return f"select {some}"


@cache
def _render_deleted_endpoints(edge: Resource) -> str:
    return " union all ".join(
        f"""
        select k.id from unnest(%({name})s::text::uuid[]) as k(id)
         cross join lateral (
               select deleted_at from {DIRECTORY}.{name}
                where connection_id = %(id)s and id = k.id limit 1) as found
         where found.deleted_at is not null
        """
        for name in list_edge_ends(edge)
    )


@cache
def _get_change_builder(edge: Resource) -> Callable[[ChangeKind, Pair, str], Change]:
    """Return a function that builds a change with JSON as by ``RowShape.encode_json``.

    GUIDs and types need no escapes.
    """
    parent, member, kind_column = edge.column_names
    before_parent, before_member = f'{{"{parent}":"', f'","{member}":"'
    before_type = f'","{kind_column}":"'

    def build(kind: ChangeKind, pair: Pair, member_type: str) -> Change:
        text = (
            f'{before_parent}{pair[0]}{before_member}{pair[1]}{before_type}{member_type}"}}'
        ).encode()
        if kind is ChangeKind.DELETED:
            return Change(kind, render_edge_key(pair), before=text)
        return Change(kind, render_edge_key(pair), after=text)

    return build
