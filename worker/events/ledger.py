"""Appending change events, in the transaction that writes the rows.

``seq`` goes on from the lease row, under its lock: commit order and sequence are one thing.
"""

from collections.abc import Iterable, Sequence
from typing import Final

import msgspec

from models.base import EVENTS
from models.change_event import ConnectionChange
from models.resource import Resource
from worker.store.change import Change
from worker.store.copy import copy_rows
from worker.store.lease import Transaction

_COLUMNS: Final = (
    "connection_id",
    "seq",
    "occurred_at",
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
"""Resource of the events that tell of the connection itself; a fold passes over them."""


def append(
    tx: Transaction,
    resource: Resource,
    changes: Sequence[Change],
    *,
    run_id: int | None,
    initial: bool = False,
) -> None:
    """Write one event for each change, in order."""
    if changes:
        copy_rows(
            tx.connection,
            EVENTS,
            "change_events",
            _COLUMNS,
            _event_rows(tx, resource.name, changes, run_id=run_id, initial=initial),
        )


def append_all(
    tx: Transaction,
    changes: Iterable[tuple[Resource, Sequence[Change]]],
    *,
    run_id: int | None,
    initial: bool = False,
) -> None:
    """The same for several resources."""
    for resource, some in changes:
        append(tx, resource, some, run_id=run_id, initial=initial)


def _event_rows(
    tx: Transaction,
    resource: str,
    changes: Sequence[Change],
    *,
    run_id: int | None,
    initial: bool,
) -> Iterable[tuple[object, ...]]:
    seq, owner, moment = tx.seq, tx.connection_id, tx.moment.isoformat()
    for kind, key, changed, before, after in changes:
        seq += 1
        yield (
            owner,
            seq,
            moment,
            resource,
            key,
            kind.value,
            changed,
            before.decode() if before is not None else None,
            after.decode() if after is not None else None,
            initial,
            run_id,
        )
    tx.seq = seq


def tell_connection(
    tx: Transaction,
    change: ConnectionChange,
    about: dict[str, object],
    *,
    run_id: int | None = None,
) -> None:
    """One event about the connection itself."""
    tx.seq += 1
    copy_rows(
        tx.connection,
        EVENTS,
        "change_events",
        _COLUMNS,
        [
            (
                tx.connection_id,
                tx.seq,
                tx.moment,
                CONNECTION,
                str(tx.connection_id),
                change.value,
                None,
                None,
                msgspec.json.encode(about).decode(),
                False,
                run_id,
            )
        ],
    )
