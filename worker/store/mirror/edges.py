"""Storing memberships. An edge is live only while neither its group nor its member is deleted.

An edge that arrives for a deleted endpoint is stored but not live (reason ``cascade``). When the
endpoint returns, its memberships are read from Graph again and not restored from stored rows.
"""

from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from itertools import chain
from typing import Final, NamedTuple

from models.change_event import ChangeKind
from models.resource import DeletedReason
from models.resources.group_members import GROUP_MEMBERS
from worker.rows.copy_format import NULL, encode_array
from worker.rows.shape import get_shape
from worker.store.engine import get_driver_connection
from worker.store.lease import Transaction
from worker.store.mirror.change import Change
from worker.store.mirror.live_since import NOT_OBSERVED, LiveSince
from worker.store.mirror.write import copy_new_lines, update_each

Pair = tuple[str, str]
"""A group's id and a member's."""

# One index probe per pair: see mirror/merge.py on tables without statistics.
_KNOWN = """
    select found.* from unnest(%s::text::uuid[], %s::text::uuid[]) as k(group_id, member_id)
     cross join lateral (
           select group_id, member_id, member_type, deleted_at is null, deleted_reason
             from directory.group_members
            where connection_id = %s and group_id = k.group_id and member_id = k.member_id
            limit 1) as found
"""
_ANY_DELETED_ENDPOINT = """
    select exists (select from directory.users where connection_id = %s and deleted_at is not null)
        or exists (select from directory.groups where connection_id = %s and deleted_at is not null)
"""
_DELETED_ENDPOINTS = """
    select k.id from unnest(%s::text::uuid[]) as k(id)
     cross join lateral (
           select deleted_at from directory.users
            where connection_id = %s and id = k.id limit 1) as found
     where found.deleted_at is not null
    union all
    select k.id from unnest(%s::text::uuid[]) as k(id)
     cross join lateral (
           select deleted_at from directory.groups
            where connection_id = %s and id = k.id limit 1) as found
     where found.deleted_at is not null
"""
_UPDATE = """
    update directory.group_members
       set member_type = %s, deleted_at = %s, deleted_reason = %s, changed_at = %s
     where connection_id = %s and group_id = %s and member_id = %s
"""
_RESTORE = """
    update directory.group_members
       set member_type = %s, deleted_at = null, deleted_reason = null, changed_at = %s,
           live_since = %s
     where connection_id = %s and group_id = %s and member_id = %s
"""
_CASCADE = """
    update directory.group_members
       set deleted_at = %s, deleted_reason = 'cascade', changed_at = %s
     where connection_id = %s and deleted_at is null
       and (group_id = any(%s::uuid[]) or member_id = any(%s::uuid[]))
 returning group_id, member_id, member_type
"""
_MEMBERS = """
    select member_id from directory.group_members
     where connection_id = %s and group_id = %s and member_id > %s and deleted_at is null
     order by member_id limit %s
"""
MEMBERS_BATCH = 2_000
"""Members of a group that are read at a time."""

EDGE: Final = GROUP_MEMBERS
"""The resource of the memberships."""

_SHAPE = get_shape(EDGE)


class StoredEdge(NamedTuple):
    member_type: str
    is_live: bool
    reason: str | None


def render_edge_key(pair: Pair) -> str:
    """Return the key of a membership in events, seen keys and removals."""
    return f"{pair[0]}/{pair[1]}"


def parse_edge_key(key: str) -> Pair:
    group_id, _, member_id = key.partition("/")
    return group_id, member_id


def merge_edges(
    tx: Transaction,
    arriving: Mapping[Pair, str],
    *,
    assume_new: bool = False,
    live_since: LiveSince = NOT_OBSERVED,
) -> list[Change]:
    """Store memberships that Graph reports (pair to member type), and return the changes.

    ``assume_new`` inserts all without comparing, for a first load. ``live_since`` gives the time
    since when new ones are live. Raises RowExists if an assumed new one is stored already: the
    transaction is lost and the page must be compared.
    """
    if not arriving:
        return []
    stored = {} if assume_new else load_edges(tx, arriving)
    ended = _find_deleted_endpoints(tx, arriving)
    fresh = {pair: kind for pair, kind in arriving.items() if pair not in stored}
    returning = [pair for pair, old in stored.items() if not old.is_live]
    began = live_since.load_for_members(tx, {group for group, _ in (*fresh, *returning)})
    changes = _insert(tx, fresh, ended, began)
    altered: list[tuple[object, ...]] = []
    revived: list[tuple[object, ...]] = []
    for pair, old in stored.items():
        kind = _choose_member_type(old, arriving[pair])
        if not ended.isdisjoint(pair):
            if not old.is_live and old.reason != DeletedReason.CASCADE:
                altered.append(
                    (kind, tx.moment, DeletedReason.CASCADE.value, *_build_row_key(tx, pair))
                )
        elif not old.is_live:
            changes.append(_build_change(ChangeKind.RESTORED, pair, kind))
            revived.append((kind, tx.moment, began[pair[0]], tx.connection_id, *pair))
        elif kind != old.member_type:
            changes.append(_build_type_change(pair, old.member_type, kind))
            altered.append((kind, None, None, *_build_row_key(tx, pair)))
    update_each(tx, GROUP_MEMBERS, _UPDATE, altered)
    update_each(tx, GROUP_MEMBERS, _RESTORE, revived)
    return changes


def _choose_member_type(old: StoredEdge, sent: str) -> str:
    """Return the type of a member; ``other`` does not replace a known type."""
    return old.member_type if sent == "other" else sent


def _build_row_key(tx: Transaction, pair: Pair) -> tuple[object, ...]:
    return (tx.moment, tx.connection_id, *pair)


def _insert(
    tx: Transaction,
    fresh: Mapping[Pair, str],
    ended: set[str],
    began: Mapping[str, datetime | None],
) -> list[Change]:
    """Store new memberships, and return changes for those that are live."""
    dead = {pair: kind for pair, kind in fresh.items() if not ended.isdisjoint(pair)}
    live = {pair: kind for pair, kind in fresh.items() if pair not in dead} if dead else fresh
    if fresh:
        lines = chain(
            _render_lines(tx, live, began), _render_lines(tx, dead, began, deleted_endpoint=True)
        )
        copy_new_lines(tx, GROUP_MEMBERS, lines)
    return [_build_change(ChangeKind.CREATED, pair, kind) for pair, kind in live.items()]


def _render_lines(
    tx: Transaction,
    fresh: Mapping[Pair, str],
    began: Mapping[str, datetime | None],
    *,
    deleted_endpoint: bool = False,
) -> Iterator[bytes]:
    """Return the COPY lines of new memberships; not live if an endpoint is deleted."""
    moment = tx.moment.isoformat()
    fate = (moment, DeletedReason.CASCADE.value) if deleted_endpoint else (NULL, NULL)
    owner, rest = tx.connection_id, "\t".join((moment, moment, *fate, NULL, NULL))
    ends = {
        group_id: f"\t{rest}\t{NULL if at is None or deleted_endpoint else at.isoformat()}\n"
        for group_id, at in began.items()
    }
    for (group_id, member_id), member_type in fresh.items():
        yield f"{owner}\t{group_id}\t{member_id}\t{member_type}{ends[group_id]}".encode()


def _build_type_change(pair: Pair, old_type: str, new_type: str) -> Change:
    """Return the change of a membership whose member has another type now."""
    return Change(
        ChangeKind.UPDATED,
        render_edge_key(pair),
        ["member_type"],
        _SHAPE.encode_columns((*pair, old_type), ["member_type"]),
        _SHAPE.encode_columns((*pair, new_type), ["member_type"]),
    )


def delete_edges(tx: Transaction, reasons: Mapping[Pair, str]) -> list[Change]:
    """End memberships; unknown ones are ignored, ended ones only get the new reason."""
    if not reasons:
        return []
    changes, altered = [], []
    for pair, old in load_edges(tx, reasons).items():
        reason = reasons[pair]
        if old.is_live:
            changes.append(_build_change(ChangeKind.DELETED, pair, old.member_type))
        elif old.reason == reason:
            continue
        altered.append((old.member_type, tx.moment, reason, tx.moment, tx.connection_id, *pair))
    update_each(tx, GROUP_MEMBERS, _UPDATE, altered)
    return changes


def end_edges_of(tx: Transaction, ended: Iterable[str]) -> list[Change]:
    """End all memberships of the given users and groups, as member and as group."""
    ids = list(ended)
    if not ids:
        return []
    with get_driver_connection(tx.db).cursor() as cursor:
        cursor.execute(_CASCADE, (tx.moment, tx.moment, tx.connection_id, ids, ids))
        return [build_edge_deletion((g, m), kind) for g, m, kind in cursor.fetchall()]


def build_edge_deletion(pair: Pair, member_type: str) -> Change:
    """Return the change of a membership that has ended."""
    return _build_change(ChangeKind.DELETED, pair, member_type)


def load_edges(tx: Transaction, pairs: Iterable[Pair]) -> dict[Pair, StoredEdge]:
    """Return the given memberships as stored, ended ones included."""
    listed = list(pairs)
    columns = [encode_array([pair[side] for pair in listed]) for side in (0, 1)]
    with get_driver_connection(tx.db).cursor() as cursor:
        cursor.execute(_KNOWN, (*columns, tx.connection_id))
        return {(row[0], row[1]): StoredEdge(*row[2:]) for row in cursor.fetchall()}


def iterate_live_members(tx: Transaction, group_id: str) -> Iterator[list[str]]:
    """Yield the ids of all live members of a group, ``MEMBERS_BATCH`` at a time, in order."""
    after = "00000000-0000-0000-0000-000000000000"
    while True:
        with get_driver_connection(tx.db).cursor() as cursor:
            cursor.execute(_MEMBERS, (tx.connection_id, group_id, after, MEMBERS_BATCH))
            members = [row[0] for row in cursor.fetchall()]
        if members:
            yield members
        if len(members) < MEMBERS_BATCH:
            return
        after = members[-1]


def _find_deleted_endpoints(tx: Transaction, arriving: Mapping[Pair, str]) -> set[str]:
    """Return the deleted endpoints; members are looked up in the table of their type."""
    with get_driver_connection(tx.db).cursor() as cursor:
        cursor.execute(_ANY_DELETED_ENDPOINT, (tx.connection_id, tx.connection_id))
        if cursor.fetchone() == (False,):
            return set()
    users = {pair[1] for pair, kind in arriving.items() if kind in ("user", "other")}
    groups = {pair[1] for pair, kind in arriving.items() if kind in ("group", "other")}
    groups.update(pair[0] for pair in arriving)
    wanted = [encode_array(list(ids)) for ids in (users, groups)]
    with get_driver_connection(tx.db).cursor() as cursor:
        cursor.execute(
            _DELETED_ENDPOINTS, (wanted[0], tx.connection_id, wanted[1], tx.connection_id)
        )
        return {row[0] for row in cursor.fetchall()}


def _build_change(kind: ChangeKind, pair: Pair, member_type: str) -> Change:
    """Return a change with JSON as by ``RowShape.encode_json``; GUIDs and types need no escapes."""
    group_id, member_id = pair
    text = (
        f'{{"group_id":"{group_id}","member_id":"{member_id}","member_type":"{member_type}"}}'
    ).encode()
    if kind is ChangeKind.DELETED:
        return Change(kind, render_edge_key(pair), before=text)
    return Change(kind, render_edge_key(pair), after=text)
