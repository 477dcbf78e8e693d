"""Scrubbing events: what they tell of an erased object goes, that they happened stays.

Sequence, id, time, resource and change of an event are kept; its key becomes a digest, and what
the object was before and after is gone. A deletion keeps its key while a sink has not had it:
its receiver could not know otherwise whom to delete.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum
from typing import Any, Final, NamedTuple

from msgspec.structs import replace
from sqlalchemy import Connection, text

from models.change_event import ChangeKind
from models.resources.group_members import GROUP_MEMBERS
from models.resources.role_assignments import ROLE_ASSIGNMENTS
from worker.store.engine import along_the_key, driver
from worker.store.erasure import Digests, Erasure, Pending
from worker.store.free_text import names_of

BATCH: Final = 20_000
"""Events that are looked at in one transaction."""

_ABOUT: Final = """
       (resource = any(%(own)s::text[]) and object_id = %(key)s
        or resource = 'group_members' and (split_part(object_id, '/', 1) = %(key)s
                                           or split_part(object_id, '/', 2) = %(key)s)
        or resource = 'role_assignments' and (object_id = any(%(assignments)s::text[])
                                              or before ->> 'principal_id' = %(key)s
                                              or after ->> 'principal_id' = %(key)s))
"""
_READ: Final = f"""
    select seq, occurred_at, resource, object_id, change, before, after
      from events.change_events
     where connection_id = %(id)s and seq > %(after)s and seq <= %(upto)s and {_ABOUT}
     order by seq
""".encode()
_WRITE: Final = """
    update events.change_events set object_id = %s, changed = null, before = null, after = null
     where connection_id = %s and seq = %s and occurred_at = %s
"""
_FIRST = text("select min(seq) from events.change_events where connection_id = :id")
_BOUNDS = text("select min(seq), max(seq) from events.change_events where connection_id = :id")
_LOOK: Final = f"""
    select resource from events.change_events
     where connection_id = %(id)s and seq > %(after)s and seq <= %(upto)s and {_ABOUT}
     order by resource = any(%(own)s::text[]) desc limit 1
""".encode()


class Move(Enum):
    """What scrubbing has to do next."""

    LOOK = "the next batch of events"
    AGAIN = "all of them once more, as a role assignment became known late"
    WAIT = "a sink has not had every deletion"
    KEYS = "the keys that were kept for sinks, which have had them"
    END = "nothing"


def next_move(pending: Pending, last_seq: int, *, waits: bool) -> Move:
    """How scrubbing goes on from where it is. Pure."""
    if pending.upto < last_seq:
        return Move.LOOK
    if pending.again:
        return Move.AGAIN
    if pending.kept_from is None:
        return Move.END
    return Move.WAIT if waits else Move.KEYS


def turned(pending: Pending, move: Move) -> Pending:
    """The state with which another pass begins."""
    if move is Move.AGAIN:
        return replace(pending, upto=0, again=False)
    assert move is Move.KEYS
    assert pending.kept_from is not None
    return replace(pending, upto=pending.kept_from - 1, kept_from=None)


class Found(NamedTuple):
    """An event about the object."""

    seq: int
    occurred_at: datetime
    resource: str
    object_id: str
    change: str
    before: dict[str, Any] | None
    after: dict[str, Any] | None

    def names(self, resource: str) -> set[str]:
        """What the object was called then."""
        if self.resource != resource:
            return set()
        return names_of(self.before or {}) | names_of(self.after or {})


@dataclass
class Batch:
    """Events of one range that are about the object."""

    upto: int
    found: list[Found] = field(default_factory=list)

    def names(self, resource: str) -> set[str]:
        return set().union(*(one.names(resource) for one in self.found))


def scrubbed_key(resource: str, object_id: str, target: str, digests: Digests) -> str:
    """An event's key without the erased id; the other side of a membership stays."""
    if resource != GROUP_MEMBERS.name:
        return digests.mark(object_id)
    parts = object_id.split("/")
    return "/".join(digests.mark(part) if part == target else part for part in parts)


def _under_way(erasure: Erasure) -> tuple[Pending, int]:
    assert erasure.pending is not None
    assert erasure.last_seq is not None
    return erasure.pending, erasure.last_seq


def read_batch(connection: Connection, erasure: Erasure, limit: int = BATCH) -> Batch:
    """The events about the object among the next ones."""
    pending, last_seq = _under_way(erasure)
    after = pending.upto
    if after == 0:
        first = connection.execute(_FIRST, {"id": erasure.connection_id}).scalar()
        after = last_seq if first is None else first - 1
    batch = Batch(min(last_seq, after + limit))
    values = {
        "id": erasure.connection_id,
        "own": [erasure.resource],
        "key": pending.id,
        "assignments": pending.assignments,
        "after": after,
        "upto": batch.upto,
    }
    along_the_key(connection)
    with driver(connection).cursor() as cursor:
        cursor.execute(_READ, values)
        batch.found = [Found(*row) for row in cursor.fetchall()]
    return batch


def write_batch(
    connection: Connection, erasure: Erasure, batch: Batch, digests: Digests, floor: int | None
) -> Pending:
    """Scrub some events; the state behind them.

    Every waiting sink has had what comes up to ``floor``; None where no sink waits.
    """
    pending, _ = _under_way(erasure)
    kept = [one.seq for one in batch.found if keeps_key(one, floor)]
    rows = [
        (
            one.object_id
            if keeps_key(one, floor)
            else scrubbed_key(one.resource, one.object_id, pending.id, digests),
            erasure.connection_id,
            one.seq,
            one.occurred_at,
        )
        for one in batch.found
    ]
    along_the_key(connection)
    with driver(connection).cursor() as cursor:
        if rows:
            cursor.executemany(_WRITE, rows)
    return advanced(pending, batch, kept)


def keeps_key(found: Found, floor: int | None) -> bool:
    """Whether a sink still has to be told whom to delete."""
    return floor is not None and found.change == ChangeKind.DELETED and found.seq > floor


def advanced(pending: Pending, batch: Batch, kept: Sequence[int]) -> Pending:
    """The state behind a batch.

    The event of an assignment's creation names its principal, later ones need not. So one that
    becomes known by another event may have been told of before.
    """
    known = set(pending.assignments)
    assignments, again = list(pending.assignments), pending.again
    for one in batch.found:
        if one.resource == ROLE_ASSIGNMENTS.name and one.object_id not in known:
            known.add(one.object_id)
            assignments.append(one.object_id)
            again = again or one.change != ChangeKind.CREATED
    firsts = [*kept[:1], *([] if pending.kept_from is None else [pending.kept_from])]
    return replace(
        pending,
        upto=batch.upto,
        assignments=assignments,
        again=again,
        kept_from=min(firsts, default=None),
    )


def told_of(connection: Connection, connection_id: int, key: str, own: Sequence[str]) -> str | None:
    """The resource, of ``own``, of an object that events tell of.

    Another one where only memberships or role assignments name it; None where nothing does.
    """
    first, last = connection.execute(_BOUNDS, {"id": connection_id}).one()
    best: str | None = None
    values = {"id": connection_id, "key": key, "own": list(own), "assignments": []}
    along_the_key(connection)
    with driver(connection).cursor() as cursor:
        for after in range((first or 1) - 1, last or 0, BATCH):
            cursor.execute(_LOOK, {**values, "after": after, "upto": after + BATCH})
            found = cursor.fetchone()
            if found and found[0] in own:
                return str(found[0])
            best = best or (found and found[0])
    return best
