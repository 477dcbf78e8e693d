"""A consumer of change events as an integrator would write it; it imports nothing of the project.

    STREAM_URL=redis://... python tests/support/consumer.py STREAM FILE

It reads a Redis stream in a consumer group, folds the events into tables of its own (an SQLite
file), and acknowledges what it has stored. It may be killed at any point.
"""

import json
import os
import signal
import sqlite3
import sys
import time
import weakref
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from threading import Lock
from types import FrameType
from typing import Any

import redis

GROUP, NAME = "fold", "only"
BATCH_SIZE = 500
"""Entries that are taken at once, and stored in one transaction."""

_TABLES = """
create table if not exists sources (
    source text primary key, epoch text not null, last integer not null
);
create table if not exists lacks (source text primary key, first integer not null);
create table if not exists ids (
    source text, sequence integer, id text not null, primary key (source, sequence)
) without rowid;
create table if not exists objects (
    source text, resource text, key text, held text not null, as_of text not null,
    primary key (source, resource, key)
) without rowid;
create table if not exists complaints (complaint text not null);
"""


class Fold:
    """What a consumer holds that has seen some events: objects by source, resource and key.

    It goes by the rule that every consumer without filters can go by: of each source, take the
    event whose sequence comes next, and drop what was there before. Anything later means that
    some are lacking, and waits until those were sent once more. A snapshot may begin anywhere.

    A greater epoch of a source says that its history was rewound, and its sequence counts anew.
    What is held of it stays until the end of the snapshot that follows, and what that has not
    told is then dropped. A smaller epoch is of a history that is no more.

    Columns that come later have unknown values until an event or a snapshot tells them: objects
    lack them.
    """

    def __init__(self, path: Path | str = ":memory:") -> None:
        self._lock = Lock()
        self._tables = sqlite3.connect(
            path, timeout=30, isolation_level=None, check_same_thread=False
        )
        weakref.finalize(self, self._tables.close)  # Python 3.13 warns of one that is left open
        self._tables.execute("pragma journal_mode = wal")
        self._tables.execute("pragma synchronous = off")  # enough for a process that is killed
        self._tables.executescript(_TABLES)

    def close(self) -> None:
        self._tables.close()

    def apply(self, events: Iterable[dict[str, Any]]) -> None:
        """Store some events, all or none."""
        with self._lock:
            self._tables.execute("begin immediate")
            try:
                for event in events:
                    self._apply_event(event)
            except BaseException:
                self._tables.execute("rollback")
                raise
            self._tables.execute("commit")

    def position(self, source: str) -> int:
        """The last sequence that was taken of a source; 0 where none was."""
        return int(self._one("select last from sources where source = ?", source) or 0)

    def epoch(self, source: str) -> str:
        """The epoch of the last event that was taken of a source; empty where none was."""
        return str(self._one("select epoch from sources where source = ?", source) or "")

    def objects(self, source: str, resource: str) -> list[dict[str, Any]]:
        query = "select held from objects where source = ? and resource = ?"
        return [json.loads(held) for (held,) in self._all(query, source, resource)]

    @property
    def errors(self) -> list[str]:
        """What no sequence of true events can bring about."""
        return [complaint for (complaint,) in self._all("select complaint from complaints")]

    @property
    def gaps(self) -> dict[str, int]:
        """The sources of which events are lacking, and the first of those."""
        return dict(self._all("select source, first from lacks"))

    def _apply_event(self, event: dict[str, Any]) -> None:
        if "sequence" not in event:  # somebody tries the sink
            return
        source, epoch = event["source"], event["epoch"]
        stored_epoch = str(self._row("select epoch from sources where source = ?", source) or "")
        if epoch < stored_epoch:  # from somebody who has not heard of the new epoch
            return
        if epoch > stored_epoch:
            self._begin_epoch(event)
        last = int(self._row("select last from sources where source = ?", source) or 0)
        if not event["data"]["snapshot"]:
            self._apply_change(event, last)
        elif int(event["sequence"]) >= last:
            self._set_position(event)
            self._apply_snapshot(event)

    def _apply_change(self, event: dict[str, Any], last: int) -> None:
        """An event that tells of a change."""
        source, epoch, sequence = event["source"], event["epoch"], int(event["sequence"])
        if sequence <= last:
            self._check_duplicate(source, sequence, event["id"])
            return
        begins_epoch = last == 0 and event["type"].endswith("connection.rewound")
        if sequence > last + 1 and not begins_epoch:
            self._execute("insert or ignore into lacks values (?, ?)", source, last + 1)
            return
        self._execute("insert into ids values (?, ?, ?)", source, sequence, event["id"])
        self._set_position(event)
        self._execute("delete from lacks where source = ?", source)
        if event["type"].endswith("connection.rewound"):
            self._drop_unknown(epoch, event["data"]["after"]["last_connection"])
        elif event["type"].endswith("connection.coverage_changed"):
            self._change_coverage(source, **event["data"]["after"])
        elif event["data"]["resource"] != "connection" and not _is_erased(event):
            self._fold(event)

    def _set_position(self, event: dict[str, Any]) -> None:
        place = (event["source"], event["epoch"], int(event["sequence"]))
        self._execute("insert or replace into sources values (?, ?, ?)", *place)

    def _begin_epoch(self, event: dict[str, Any]) -> None:
        """Its numbers have nothing to do with those before."""
        source = event["source"]
        self._execute("insert or replace into sources values (?, ?, 0)", source, event["epoch"])
        self._execute("delete from ids where source = ?", source)
        self._execute("delete from lacks where source = ?", source)
        if int(event["sequence"]) == 1 and not event["data"]["snapshot"]:
            # From the first event on, and so without a snapshot: nothing of before is left.
            self._execute("delete from objects where source = ?", source)

    def _apply_snapshot(self, event: dict[str, Any]) -> None:
        data = event["data"]
        if data["resource"] != "connection":
            self._put(event, data["after"])
            return
        assert event["type"].endswith("connection.snapshot_completed")
        for resource in data["after"]["resources"]:
            place = (event["source"], resource, _build_version(event))
            statement = "delete from objects where source = ? and resource = ? and as_of < ?"
            self._execute(statement, *place)

    def _drop_unknown(self, epoch: str, last_connection: int) -> None:
        """Sources that the restored mirror never knew; those that it gave anew are of its epoch."""
        statement = "select source, epoch from sources"
        for source, known in self._tables.execute(statement).fetchall():
            if int(source.rpartition("/")[2]) > last_connection and known < epoch:
                for table in ("objects", "ids", "lacks", "sources"):
                    self._execute(f"delete from {table} where source = ?", source)

    def _change_coverage(
        self,
        source: str,
        resource: str,
        added: list[str],
        dropped: list[str],
        state: str | None = None,
        **_: object,
    ) -> None:
        """A resource is switched off: it has no objects. Else some columns of them are unknown."""
        if state == "off":
            self._execute("delete from objects where source = ? and resource = ?", source, resource)
        statement = (
            "update objects set held = json_remove(held, ?) where source = ? and resource = ?"
        )
        for name in (*added, *dropped):
            self._execute(statement, f"$.{name}", source, resource)

    def _check_duplicate(self, source: str, sequence: int, event_id: str) -> None:
        """An event that comes again must be the one that came before."""
        query = "select id from ids where source = ? and sequence = ?"
        if self._row(query, source, sequence) not in (event_id, None):  # none: of the snapshot
            self._record_error(f"{source} {sequence} came with another id")

    def _fold(self, event: dict[str, Any]) -> None:
        data = event["data"]
        place = (event["source"], data["resource"], event["subject"])
        query = "select held from objects where source = ? and resource = ? and key = ?"
        found = self._row(query, *place)
        held = None if found is None else json.loads(found)
        before, after = data["before"], data["after"]
        if not _matches_before(held, before, after):
            self._record_error(
                f"{event['source']} {event['sequence']} does not follow what is held"
            )
        if after is None:
            self._execute(
                "delete from objects where source = ? and resource = ? and key = ?", *place
            )
        else:
            self._put(event, {**(held or {}), **after})

    def _put(self, event: dict[str, Any], held: dict[str, Any]) -> None:
        data = event["data"]
        place = (event["source"], data["resource"], event["subject"])
        text = json.dumps({**held, **data["key"]})
        values = (*place, text, _build_version(event))
        self._execute("insert or replace into objects values (?, ?, ?, ?, ?)", *values)

    def _record_error(self, complaint: str) -> None:
        self._execute("insert into complaints values (?)", complaint)

    def _execute(self, statement: str, *values: object) -> None:
        self._tables.execute(statement, values)

    def _row(self, query: str, *values: object) -> Any:
        found = self._tables.execute(query, values).fetchone()
        return None if found is None else found[0]

    def _one(self, query: str, *values: object) -> Any:
        with self._lock:
            return self._row(query, *values)

    def _all(self, query: str, *values: object) -> list[Any]:
        with self._lock:
            return self._tables.execute(query, values).fetchall()


def _build_version(event: dict[str, Any]) -> str:
    """Which of two is later, also across epochs: both parts have a fixed width."""
    return f"{event['epoch']}/{event['sequence']}"


def _is_erased(event: dict[str, Any]) -> bool:
    """Whether it told of somebody who has been erased: nothing is left of it but its number."""
    return any(str(part).startswith("erased:") for part in event["data"]["key"].values())


def _matches_before(
    held: dict[str, Any] | None, before: dict[str, Any] | None, after: dict[str, Any] | None
) -> bool:
    """Whether an object was as an event says that it was, as far as is known."""
    if before is None and after is None:  # an erasure, which does not say
        return True
    if held is None or before is None:
        return held is None and before is None
    return all(held[name] == value for name, value in before.items() if name in held)


def follow(url: str, stream: str, fold: Fold, is_stopped: Callable[[], bool]) -> None:
    """Read until told to stop; a Redis that is away is asked again."""
    begin = "0"  # what was handed out and never acknowledged; ">" is what is new
    client: Any = redis.Redis.from_url(url, socket_timeout=5, socket_connect_timeout=2)
    while not is_stopped():
        try:
            begin = _read_batch(client, stream, fold, begin)
        except redis.ResponseError as error:
            if not str(error).startswith("NOGROUP"):
                time.sleep(0.2)
            with suppress(redis.RedisError):
                client.xgroup_create(stream, GROUP, id="0", mkstream=True)
            begin = "0"
        except redis.RedisError:
            # An answer that was lost on the way: its entries wait under our name.
            begin = "0"
            time.sleep(0.2)


def _read_batch(client: Any, stream: str, fold: Fold, begin: str) -> str:
    """Take some entries; where to go on."""
    answer = client.xreadgroup(GROUP, NAME, {stream: begin}, count=BATCH_SIZE, block=200)
    entries = answer[0][1] if answer else []
    if not entries:
        return ">"
    # One that was trimmed meanwhile comes without its content.
    fold.apply(json.loads(entry[b"event"]) for _, entry in entries if entry)
    client.xack(stream, GROUP, *(number for number, _ in entries))
    return begin


def main() -> None:
    """Follow the stream until a signal says otherwise."""
    numbers: list[int] = []

    def stop(number: int, _frame: FrameType | None) -> None:
        numbers.append(number)

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    stream, path = sys.argv[1:]
    fold = Fold(path)
    follow(os.environ["STREAM_URL"], stream, fold, lambda: bool(numbers))
    fold.close()


if __name__ == "__main__":
    main()
