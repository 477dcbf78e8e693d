"""Memberships. An edge is live only while neither of its ends is deleted here.

An edge that arrives for a deleted end is stored but not live (reason ``cascade``); when the end
comes back, its memberships are read from Graph again, never revived from memory.
"""

from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from itertools import chain
from typing import NamedTuple

from models.change_event import ChangeKind
from models.copy_text import NULL, array_literal
from models.resource import DeletedReason
from models.resources.group_members import GROUP_MEMBERS
from models.row import shape_of
from worker.store.beginnings import NOT_SEEN, Beginnings
from worker.store.change import Change
from worker.store.engine import driver
from worker.store.lease import Transaction
from worker.store.updates import update_each
from worker.store.writing import insert_lines

Pair = tuple[str, str]
"""A group's id and a member's."""

# One index probe a pair: see store/merge.py on tables without statistics.
_KNOWN = """
    select found.* from unnest(%s::text::uuid[], %s::text::uuid[]) as k(group_id, member_id)
     cross join lateral (
           select group_id, member_id, member_type, deleted_at is null, deleted_reason
             from directory.group_members
            where connection_id = %s and group_id = k.group_id and member_id = k.member_id
            limit 1) as found
"""
_ANY_ENDED = """
    select exists (select from directory.users where connection_id = %s and deleted_at is not null)
        or exists (select from directory.groups where connection_id = %s and deleted_at is not null)
"""
_ENDED = """
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
_REVIVE = """
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
MEMBERS = 2_000
"""Members of a group that are read at a time."""
_SHAPE = shape_of(GROUP_MEMBERS)


class StoredEdge(NamedTuple):
    member_type: str
    live: bool
    reason: str | None


def edge_key(pair: Pair) -> str:
    """How a membership is named in events and evidence."""
    return f"{pair[0]}/{pair[1]}"


def pair_of(key: str) -> Pair:
    group_id, _, member_id = key.partition("/")
    return group_id, member_id


def merge_edges(
    tx: Transaction,
    arriving: Mapping[Pair, str],
    *,
    hopeful: bool = False,
    beginnings: Beginnings = NOT_SEEN,
) -> list[Change]:
    """Store memberships that Graph reports: pair to member type.

    ``hopeful`` takes all of them for new, as in a first load they are. ``beginnings`` says since
    when those are live that come.
    Raises NotAllNew where one is not: the transaction is lost and the page must be compared.
    """
    if not arriving:
        return []
    known = {} if hopeful else stored_edges(tx, arriving)
    ended = _ended(tx, arriving)
    fresh = {pair: kind for pair, kind in arriving.items() if pair not in known}
    returning = [pair for pair, old in known.items() if not old.live]
    began = beginnings.of_members(tx, {group for group, _ in (*fresh, *returning)})
    changes = _insert(tx, fresh, ended, began)
    altered: list[tuple[object, ...]] = []
    revived: list[tuple[object, ...]] = []
    for pair, old in known.items():
        kind = _kind(old, arriving[pair])
        if not ended.isdisjoint(pair):
            if not old.live and old.reason != DeletedReason.CASCADE:
                altered.append((kind, tx.moment, DeletedReason.CASCADE.value, *_where(tx, pair)))
        elif not old.live:
            changes.append(_told(ChangeKind.RESTORED, pair, kind))
            revived.append((kind, tx.moment, began[pair[0]], tx.connection_id, *pair))
        elif kind != old.member_type:
            changes.append(_retyped(pair, old.member_type, kind))
            altered.append((kind, None, None, *_where(tx, pair)))
    update_each(tx, GROUP_MEMBERS, _UPDATE, altered)
    update_each(tx, GROUP_MEMBERS, _REVIVE, revived)
    return changes


def _kind(old: StoredEdge, sent: str) -> str:
    """The type of a member; that it is some other is no news."""
    return old.member_type if sent == "other" else sent


def _where(tx: Transaction, pair: Pair) -> tuple[object, ...]:
    return (tx.moment, tx.connection_id, *pair)


def _insert(
    tx: Transaction,
    fresh: Mapping[Pair, str],
    ended: set[str],
    began: Mapping[str, datetime | None],
) -> list[Change]:
    """Store memberships that are new. Only those are told that are live."""
    dead = {pair: kind for pair, kind in fresh.items() if not ended.isdisjoint(pair)}
    live = {pair: kind for pair, kind in fresh.items() if pair not in dead} if dead else fresh
    if fresh:
        lines = chain(_lines(tx, live, began), _lines(tx, dead, began, dead_end=True))
        insert_lines(tx, GROUP_MEMBERS, lines)
    return [_told(ChangeKind.CREATED, pair, kind) for pair, kind in live.items()]


def _lines(
    tx: Transaction,
    fresh: Mapping[Pair, str],
    began: Mapping[str, datetime | None],
    *,
    dead_end: bool = False,
) -> Iterator[bytes]:
    """The lines of memberships that are stored for the first time, live unless an end is not."""
    moment = tx.moment.isoformat()
    fate = (moment, DeletedReason.CASCADE.value) if dead_end else (NULL, NULL)
    owner, rest = tx.connection_id, "\t".join((moment, moment, *fate, NULL, NULL))
    ends = {
        group_id: f"\t{rest}\t{NULL if at is None or dead_end else at.isoformat()}\n"
        for group_id, at in began.items()
    }
    for (group_id, member_id), member_type in fresh.items():
        yield f"{owner}\t{group_id}\t{member_id}\t{member_type}{ends[group_id]}".encode()


def _retyped(pair: Pair, old_type: str, new_type: str) -> Change:
    """An event about a membership whose member is now known to be of another type."""
    return Change(
        ChangeKind.UPDATED,
        edge_key(pair),
        ["member_type"],
        _SHAPE.some((*pair, old_type), ["member_type"]),
        _SHAPE.some((*pair, new_type), ["member_type"]),
    )


def delete_edges(tx: Transaction, reasons: Mapping[Pair, str]) -> list[Change]:
    """End memberships; unknown ones are a no-op, dead ones only get the new reason."""
    if not reasons:
        return []
    changes, altered = [], []
    for pair, old in stored_edges(tx, reasons).items():
        reason = reasons[pair]
        if old.live:
            changes.append(_told(ChangeKind.DELETED, pair, old.member_type))
        elif old.reason == reason:
            continue
        altered.append((old.member_type, tx.moment, reason, tx.moment, tx.connection_id, *pair))
    update_each(tx, GROUP_MEMBERS, _UPDATE, altered)
    return changes


def cascade(tx: Transaction, ended: Iterable[str]) -> list[Change]:
    """End every membership of the given users and groups, on both sides."""
    ids = list(ended)
    if not ids:
        return []
    with driver(tx.connection).cursor() as cursor:
        cursor.execute(_CASCADE, (tx.moment, tx.moment, tx.connection_id, ids, ids))
        return [ended_edge((g, m), kind) for g, m, kind in cursor.fetchall()]


def ended_edge(pair: Pair, member_type: str) -> Change:
    """What is told of a membership that has ended."""
    return _told(ChangeKind.DELETED, pair, member_type)


def stored_edges(tx: Transaction, pairs: Iterable[Pair]) -> dict[Pair, StoredEdge]:
    """The given memberships as they stand, dead ones included."""
    listed = list(pairs)
    columns = [array_literal([pair[side] for pair in listed]) for side in (0, 1)]
    with driver(tx.connection).cursor() as cursor:
        cursor.execute(_KNOWN, (*columns, tx.connection_id))
        return {(row[0], row[1]): StoredEdge(*row[2:]) for row in cursor.fetchall()}


def live_members(tx: Transaction, group_id: str) -> Iterator[list[str]]:
    """The ids of all live members of a group, ``MEMBERS`` at a time, in order."""
    after = "00000000-0000-0000-0000-000000000000"
    while True:
        with driver(tx.connection).cursor() as cursor:
            cursor.execute(_MEMBERS, (tx.connection_id, group_id, after, MEMBERS))
            members = [row[0] for row in cursor.fetchall()]
        if members:
            yield members
        if len(members) < MEMBERS:
            return
        after = members[-1]


def _ended(tx: Transaction, arriving: Mapping[Pair, str]) -> set[str]:
    """The ends that are deleted here. A member is looked for where its type says that it is."""
    with driver(tx.connection).cursor() as cursor:
        cursor.execute(_ANY_ENDED, (tx.connection_id, tx.connection_id))
        if cursor.fetchone() == (False,):
            return set()
    users = {pair[1] for pair, kind in arriving.items() if kind in ("user", "other")}
    groups = {pair[1] for pair, kind in arriving.items() if kind in ("group", "other")}
    groups.update(pair[0] for pair in arriving)
    wanted = [array_literal(list(ids)) for ids in (users, groups)]
    with driver(tx.connection).cursor() as cursor:
        cursor.execute(_ENDED, (wanted[0], tx.connection_id, wanted[1], tx.connection_id))
        return {row[0] for row in cursor.fetchall()}


def _told(kind: ChangeKind, pair: Pair, member_type: str) -> Change:
    """An event; its JSON as ``RowShape.json`` has it. GUIDs and our words need no escapes."""
    group_id, member_id = pair
    text = (
        f'{{"group_id":"{group_id}","member_id":"{member_id}","member_type":"{member_type}"}}'
    ).encode()
    if kind is ChangeKind.DELETED:
        return Change(kind, edge_key(pair), before=text)
    return Change(kind, edge_key(pair), after=text)
