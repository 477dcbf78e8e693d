"""Redact events: their data about an erased object goes, the fact that they happened stays.

Sequence, id, time, resource and change of an event are kept; its key becomes a digest, and the
object's state before and after is removed. A deletion keeps its key while a sink has not received
it: its receiver could not know otherwise which object to delete.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum
from typing import Any, Final, NamedTuple

import sqlalchemy as sa
from msgspec.structs import replace
from sqlalchemy import text

from models.change_event import ChangeKind
from models.property import Property
from models.resource import Resource
from models.resources import EDGES, ERASABLE_REFERENCES, RESOURCES
from worker.erasure.store.text import extract_names
from worker.store.engine import get_driver_connection
from worker.store.planner import force_index_scans
from worker.store.state.erasures import Erasure, ErasureDigests, PendingErasure

_EDGE_NAMES: Final = frozenset(one.name for one in EDGES)
_REFERRING: Final = frozenset(
    name for name, columns in ERASABLE_REFERENCES.items() if columns and name not in _EDGE_NAMES
)
"""Resources whose rows name an object in a column that is not part of their key."""

BATCH_EVENTS: Final = 20_000
"""Events that are checked in one transaction."""


def _build_reference_condition(resource: Resource, columns: Collection[Property]) -> str:
    """Return a condition for the events of rows that name the object."""
    if resource.is_edge:
        places = [resource.key.index(one.name) + 1 for one in columns]
        named = [f"split_part(object_id, '/', {place}) = %(key)s" for place in places]
    else:
        states = [f"{state} ->> '{one.name}'" for one in columns for state in ("before", "after")]
        named = ["object_id = any(%(referring)s::text[])", *(f"{one} = %(key)s" for one in states)]
    return f"resource = '{resource.name}' and ({' or '.join(named)})"


def _build_condition() -> str:
    own = "resource = any(%(own)s::text[]) and object_id = %(key)s"
    others = (
        _build_reference_condition(RESOURCES[name], columns)
        for name, columns in ERASABLE_REFERENCES.items()
        if columns
    )
    return f"({' or '.join([own, *others])})"


_IS_AFFECTED: Final = _build_condition()
_SELECT_AFFECTED: Final = f"""
    select seq, occurred_at, resource, object_id, change, before, after
      from events.change_events
     where connection_id = %(id)s and seq > %(after)s and seq <= %(upto)s and {_IS_AFFECTED}
     order by seq
""".encode()
_SCRUB: Final = """
    update events.change_events set object_id = %s, changed = null, before = null, after = null
     where connection_id = %s and seq = %s and occurred_at = %s
"""
_FIRST = text("select min(seq) from events.change_events where connection_id = :id")
_BOUNDS = text("select min(seq), max(seq) from events.change_events where connection_id = :id")
_FIND_RESOURCE: Final = f"""
    select resource from events.change_events
     where connection_id = %(id)s and seq > %(after)s and seq <= %(upto)s and {_IS_AFFECTED}
     order by resource = any(%(own)s::text[]) desc limit 1
""".encode()


class ScrubStep(Enum):
    """The next step of redacting an erasure's events."""

    NEXT_BATCH = "the next batch of events"
    RESTART = "all of them once more, as a row that names the object became known late"
    WAIT_FOR_SINKS = "a sink has not had every deletion"
    REDACT_KEPT_KEYS = "the keys that were kept for sinks, which have had them"
    FINISHED = "nothing"


def choose_next_step(pending: PendingErasure, last_seq: int, *, waits: bool) -> ScrubStep:
    """Return the next step of redacting. Pure."""
    if pending.upto < last_seq:
        return ScrubStep.NEXT_BATCH
    if pending.again:
        return ScrubStep.RESTART
    if pending.kept_from is None:
        return ScrubStep.FINISHED
    return ScrubStep.WAIT_FOR_SINKS if waits else ScrubStep.REDACT_KEPT_KEYS


def begin_next_pass(pending: PendingErasure, move: ScrubStep) -> PendingErasure:
    """Return the state with which another pass begins."""
    if move is ScrubStep.RESTART:
        return replace(pending, upto=0, again=False)
    assert move is ScrubStep.REDACT_KEPT_KEYS
    assert pending.kept_from is not None
    return replace(pending, upto=pending.kept_from - 1, kept_from=None)


class AffectedEvent(NamedTuple):
    """An event about the object."""

    seq: int
    occurred_at: datetime
    resource: str
    object_id: str
    change: str
    before: dict[str, Any] | None
    after: dict[str, Any] | None

    def collect_names(self, resource: str) -> set[str]:
        """Return the object's names at that time."""
        if self.resource != resource:
            return set()
        return extract_names(self.before or {}) | extract_names(self.after or {})


@dataclass
class ScrubBatch:
    """Events of one range that are about the object."""

    upto: int
    events: list[AffectedEvent] = field(default_factory=list)

    def collect_names(self, resource: str) -> set[str]:
        return set().union(*(one.collect_names(resource) for one in self.events))


def redact_key(resource: str, object_id: str, target: str, digests: ErasureDigests) -> str:
    """Return an event's key without the erased id; the other end of an edge stays."""
    if resource not in _EDGE_NAMES:
        return digests.render_mark(object_id)
    parts = object_id.split("/")
    return "/".join(digests.render_mark(part) if part == target else part for part in parts)


def _require_pending(erasure: Erasure) -> tuple[PendingErasure, int]:
    assert erasure.pending is not None
    assert erasure.last_seq is not None
    return erasure.pending, erasure.last_seq


def read_scrub_batch(db: sa.Connection, erasure: Erasure, limit: int = BATCH_EVENTS) -> ScrubBatch:
    """Return the next events that are about the object."""
    pending, last_seq = _require_pending(erasure)
    after = pending.upto
    if after == 0:
        first = db.execute(_FIRST, {"id": erasure.connection_id}).scalar()
        after = last_seq if first is None else first - 1
    batch = ScrubBatch(min(last_seq, after + limit))
    values = {
        "id": erasure.connection_id,
        "own": [erasure.resource],
        "key": pending.id,
        "referring": pending.referring,
        "after": after,
        "upto": batch.upto,
    }
    force_index_scans(db)
    with get_driver_connection(db).cursor() as cursor:
        cursor.execute(_SELECT_AFFECTED, values)
        batch.events = [AffectedEvent(*row) for row in cursor.fetchall()]
    return batch


def scrub_batch(
    db: sa.Connection,
    erasure: Erasure,
    batch: ScrubBatch,
    digests: ErasureDigests,
    delivered_seq: int | None,
) -> PendingErasure:
    """Redact some events; return the state after them.

    Every waiting sink has received the events up to ``delivered_seq``; None if no sink waits.
    """
    pending, _ = _require_pending(erasure)
    kept = [one.seq for one in batch.events if should_keep_key(one, delivered_seq)]
    rows = [
        (
            one.object_id
            if should_keep_key(one, delivered_seq)
            else redact_key(one.resource, one.object_id, pending.id, digests),
            erasure.connection_id,
            one.seq,
            one.occurred_at,
        )
        for one in batch.events
    ]
    force_index_scans(db)
    with get_driver_connection(db).cursor() as cursor:
        if rows:
            cursor.executemany(_SCRUB, rows)
    return advance_pending(pending, batch, kept)


def should_keep_key(event: AffectedEvent, floor: int | None) -> bool:
    """Whether a sink still needs the key to know which object to delete."""
    return floor is not None and event.change == ChangeKind.DELETED and event.seq > floor


def advance_pending(
    pending: PendingErasure, batch: ScrubBatch, kept: Sequence[int]
) -> PendingErasure:
    """Return the state after a batch.

    The creation event of a role assignment names its principal, later ones need not. So one that is
    found by another event may have earlier ones that were passed over: the pass is repeated.
    """
    known = set(pending.referring)
    referring, again = list(pending.referring), pending.again
    for one in batch.events:
        if one.resource in _REFERRING and one.object_id not in known:
            known.add(one.object_id)
            referring.append(one.object_id)
            again = again or one.change != ChangeKind.CREATED
    firsts = [*kept[:1], *([] if pending.kept_from is None else [pending.kept_from])]
    return replace(
        pending,
        upto=batch.upto,
        referring=referring,
        again=again,
        kept_from=min(firsts, default=None),
    )


def find_resource_in_events(
    db: sa.Connection, connection_id: int, key: str, own: Sequence[str]
) -> str | None:
    """Return the resource, one of ``own``, of an object that events mention.

    Another one if only rows that reference it name it; None if no event does.
    """
    first, last = db.execute(_BOUNDS, {"id": connection_id}).one()
    best: str | None = None
    values = {"id": connection_id, "key": key, "own": list(own), "referring": []}
    force_index_scans(db)
    with get_driver_connection(db).cursor() as cursor:
        for after in range((first or 1) - 1, last or 0, BATCH_EVENTS):
            cursor.execute(_FIND_RESOURCE, {**values, "after": after, "upto": after + BATCH_EVENTS})
            found = cursor.fetchone()
            if found and found[0] in own:
                return str(found[0])
            best = best or (found and found[0])
    return best
