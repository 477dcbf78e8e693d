"""Compares the contents of consumers with the mirror, and checks the order of delivered events."""

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import redis
from sqlalchemy import text

from models.resources import RESOURCES
from tests.support.consumer import Fold
from worker.store.engine import Database

_COUNTERS = text("select connection_id, event_seq from sync.leases order by connection_id")


def build_source(connection_id: int) -> str:
    return f"/connections/{connection_id}"


def read_counters(database: Database) -> dict[int, int]:
    """The last event of each connection."""
    with database.open_transaction() as db:
        return {row.connection_id: row.event_seq for row in db.execute(_COUNTERS)}


def find_missing(fold: Fold, wanted: Mapping[int, int]) -> dict[int, int]:
    """The connections of which a consumer has not had all that is wanted, and what it has had."""
    had = {one: fold.position(build_source(one)) for one in wanted}
    return {one: had[one] for one, last in wanted.items() if had[one] < last}


def find_differences(database: Database, fold: Fold) -> Iterator[str]:
    """Where a consumer's objects are not the live rows, column by column."""
    for connection_id in read_counters(database):
        for resource in (name for name, one in RESOURCES.items() if one.has_events):
            held = fold.objects(build_source(connection_id), resource)
            number = _count_differences(database, connection_id, resource, held)
            if number:
                yield f"connection {connection_id}: {number} {resource} differ"


def _count_differences(
    database: Database, connection_id: int, resource: str, held: list[dict[str, Any]]
) -> int:
    """How many rows are in one of the two only."""
    columns = ", ".join(f'"{name}"' for name in RESOURCES[resource].column_names)
    key = " and ".join(f"t.{name}::text = h ->> '{name}'" for name in RESOURCES[resource].key)
    # What a consumer does not know it reads from the mirror: columns that no event has told yet.
    folded = (
        f"select {columns} from (select coalesce(to_jsonb(t), '{{}}') || h as known"
        f" from jsonb_array_elements(cast(:held as jsonb)) h left join directory.{resource} t"
        f" on t.connection_id = :id and {key}) k"
        f" cross join lateral jsonb_populate_record(null::directory.{resource}, known)"
    )
    live = (
        f"select {columns} from directory.{resource}"
        " where connection_id = :id and deleted_at is null"
    )
    statement = text(
        f"select count(*) from ((({folded}) except all ({live}))"
        f" union all (({live}) except all ({folded}))) as d"
    )
    with database.open_transaction() as db:
        values = {"id": connection_id, "held": json.dumps(held)}
        return int(db.execute(statement, values).scalar_one())


def read_stream(url: str, stream: str) -> list[dict[str, Any]]:
    """All events of a stream, in the order of its entries."""
    found = []
    with redis.Redis.from_url(url) as client:
        entries: Any = client.xrange(stream)
        for _, entry in entries:
            event = json.loads(entry[b"event"])
            assert entry[b"id"].decode() == event["id"]
            found.append(event)
    return found


def count_steps_back(events: Iterable[dict[str, Any]]) -> dict[str, int]:
    """How often each source's sequence went back to what had come before.

    Fails where one was skipped: nothing ever comes before all that is in front of it.
    """
    last: dict[str, int] = {}
    highest: dict[str, int] = {}
    back: dict[str, int] = {}
    for event in events:
        source, sequence = event["source"], int(event["sequence"])
        top = highest.setdefault(source, 0)
        assert sequence <= top + 1, f"{source}: {sequence} came after {top}"
        back[source] = back.get(source, 0) + (sequence <= last.get(source, 0))
        last[source], highest[source] = sequence, max(top, sequence)
    return back
