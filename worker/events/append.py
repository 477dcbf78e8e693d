"""Appending change events in the transaction that writes the rows.

``seq`` continues from the lease row, under its lock: commit order and sequence order are the same.
"""

import secrets
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from operator import itemgetter
from typing import Final

import msgspec

from models.base import EVENTS
from models.change_event import ConnectionChange
from models.counter import CounterName
from models.resource import Resource
from worker.rows.copy_format import NULL, encode_array, escape, escape_json
from worker.store.copy import copy_lines
from worker.store.lease import Transaction
from worker.store.mirror.change import Change

_COLUMNS: Final = (
    "connection_id",
    "seq",
    "occurred_at",
    "event_id",
    "resource",
    "object_id",
    "change",
    "changed",
    "before",
    "after",
    "initial",
    "run_id",
)
CONNECTION: Final = "connection"
"""Resource of events about the connection itself; consumers that rebuild rows skip them."""


def append_events(
    tx: Transaction,
    changes: Iterable[tuple[Resource, Sequence[Change]]],
    *,
    run_id: int | None,
    initial: bool = False,
) -> None:
    """Append one event for each change, resource by resource, in order.

    One COPY writes all of them, as each COPY costs several round trips.
    """
    lines = []
    for resource, some in changes:
        if some:
            _count_rows(tx, resource.name, some)
        if some and resource.has_events:
            lines.append(_number_events(tx, resource.name, some, run_id=run_id, initial=initial))
    if lines:
        together = chain.from_iterable(lines)
        copy_lines(tx.db, EVENTS, "change_events", _COLUMNS, together)


def _count_rows(tx: Transaction, resource: str, changes: Sequence[Change]) -> None:
    """Count the changes by kind; the transaction stores the counts with the events."""
    for kind, number in Counter(map(itemgetter(0), changes)).items():
        tx.counts.add(CounterName.ROWS, resource, kind, value=number)


def _number_events(
    tx: Transaction,
    resource: str,
    changes: Sequence[Change],
    *,
    run_id: int | None,
    initial: bool,
) -> Iterator[bytes]:
    """Return the events as COPY lines, numbered from the connection's last event."""
    first = tx.seq + 1
    tx.seq += len(changes)
    return _encode_lines(tx, resource, changes, first, run_id, initial=initial)


def _encode_lines(
    tx: Transaction,
    resource: str,
    changes: Sequence[Change],
    first: int,
    run_id: int | None,
    *,
    initial: bool,
) -> Iterator[bytes]:
    head = f"{tx.connection_id}\t".encode()
    middle = f"\t{tx.moment.isoformat()}\t{_generate_id_prefix()}".encode()
    name = f"\t{resource}\t".encode()
    tail = f"\t{'t' if initial else 'f'}\t{NULL if run_id is None else run_id}\n".encode()
    for seq, (kind, key, changed, before, after) in enumerate(changes, first):
        names = NULL if changed is None else encode_array(changed)
        safe = key if key.isprintable() and "\\" not in key else escape(key)
        what = f"{safe}\t{kind}\t{names}\t".encode()
        yield b"%b%d%b%012x%b%b%b\t%b%b" % (
            *(head, seq, middle, seq, name, what),
            *(_encode_state(before), _encode_state(after), tail),
        )


def _generate_id_prefix() -> str:
    """Return the prefix of event ids in a transaction; the last twelve digits are the seq.

    A UUID of version 8: 74 random bits and a number that is unique in the connection. Postgres
    would draw fresh bits for every event. https://www.rfc-editor.org/rfc/rfc9562#section-5.8
    """
    bits = secrets.randbits(74)
    group = f"{bits >> 42:08x}-{bits >> 26 & 0xFFFF:04x}-8{bits >> 14 & 0xFFF:03x}"
    return f"{group}-{0x8000 | bits & 0x3FFF:04x}-"


def _encode_state(text: bytes | None) -> bytes:
    return b"\\N" if text is None else escape_json(text)


def append_connection_event(
    tx: Transaction,
    change: ConnectionChange,
    after: dict[str, object],
    *,
    run_id: int | None = None,
) -> None:
    """Append one event about the connection itself."""
    event = Change(change, str(tx.connection_id), after=msgspec.json.encode(after))
    lines = _number_events(tx, CONNECTION, [event], run_id=run_id, initial=False)
    copy_lines(tx.db, EVENTS, "change_events", _COLUMNS, lines)
