"""Cumulative counters, which survive purges and restarts.

A series has several rows, its slots, so that processes seldom wait for each other; its value is
their sum. A transaction adds to its counters in one statement, the last one before it commits, and
always in the same order: so no two of them can wait for each other in a circle.
"""

import os
import socket
import zlib
from typing import Final

import sqlalchemy as sa
from sqlalchemy import text

from worker.core.counts import CounterKey, Counts, Increments
from worker.store.engine import Database

SLOTS: Final = 16
_SEPARATOR: Final = "\x1f"

_ADD: Final = text("""
    insert into sync.counters as c (name, labels, slot, value)
    select name, string_to_array(labels, :separator), :slot, value
      from unnest(cast(:names as text[]), cast(:labels as text[]), cast(:values as float8[]))
           with ordinality as added (name, labels, value, place)
     order by place
        on conflict (name, labels, slot) do update set value = c.value + excluded.value
""")
_LOAD: Final = text("select name, labels, sum(value) from sync.counters group by name, labels")


def add_to_counters(db: sa.Connection, increments: Increments) -> None:
    """Add to the counters. Call it last in a transaction: others wait for it until it commits."""
    if not increments:
        return
    rows = sorted((name, _SEPARATOR.join(labels), n) for (name, labels), n in increments.items())
    names, labels, values = zip(*rows, strict=True)
    db.execute(
        _ADD,
        {
            "names": list(names),
            "labels": list(labels),
            "values": [float(value) for value in values],  # the driver refuses a list of both
            "slot": choose_slot(socket.gethostname(), os.getpid()),
            "separator": _SEPARATOR,
        },
    )


def choose_slot(host: str, pid: int) -> int:
    """Return the slot of a process: neighbours on one host have different ones.

    Containers count their processes from 1, so the pid alone would often be the same.
    """
    return (zlib.crc32(host.encode()) + pid) % SLOTS


def flush_counts(database: Database, counts: Counts) -> None:
    """Store increments that no other transaction has taken along."""
    with counts.hand_over() as increments:
        if increments:
            with database.open_transaction() as db:
                add_to_counters(db, increments)


def load_counters(db: sa.Connection) -> dict[CounterKey, float]:
    """Return the value of every series that was ever added to."""
    return {(name, tuple(labels)): float(value) for name, labels, value in db.execute(_LOAD)}
