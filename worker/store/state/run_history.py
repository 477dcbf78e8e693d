"""A connection's runs over the last weeks, summed up by time. Bounded, however many there are."""

from dataclasses import dataclass
from datetime import datetime
from typing import Final

import sqlalchemy as sa
from sqlalchemy import text

HISTORY_DAYS: Final = 30
BUCKET_HOURS: Final = 3
_MOST_RUNS: Final = 10_000
"""Of the newest runs; a connection that changes with each run has about 8,600 in 30 days."""

# Runs without changes are kept for a week only. First loads change nothing: they read what is new
# to the mirror, and take hours where others take seconds.
_BUCKETS = text(f"""
    with loaded as (
        select min(first_complete_at) as at from sync.streams where connection_id = :id),
    newest as (
        select id, state, trigger, started_at, finished_at, created, updated, deleted, restored
          from sync.runs where connection_id = :id
         order by id desc limit {_MOST_RUNS}),
    ended as (
        select n.*, extract(epoch from finished_at - started_at) as seconds,
               extract(epoch from finished_at - max(started_at) filter (where state <> 'failed')
                   over (order by id rows between unbounded preceding and 1 preceding)) as age
          from newest n cross join loaded
         where state <> 'running' and trigger <> 'backfill' and started_at > loaded.at)
    select date_bin('{BUCKET_HOURS} hours', finished_at, timestamptz '2000-01-01 00:00Z') as began,
           count(*) as runs, count(*) filter (where state = 'failed') as failed,
           cast(sum(created) as bigint) as created, cast(sum(updated) as bigint) as updated,
           cast(sum(deleted) as bigint) as deleted, cast(sum(restored) as bigint) as restored,
           cast(max(seconds) as float8) as longest_seconds,
           cast(max(age) filter (where state <> 'failed') as float8) as oldest_seconds
      from ended
     where finished_at > clock_timestamp() - interval '{HISTORY_DAYS} days'
     group by began order by began
""")
_DRIFT = text(f"""
    select date_bin('1 day', finished_at, timestamptz '2000-01-01 00:00Z') as began,
           cast(sum(cast(number as bigint)) as bigint) as number
      from (select finished_at, resources from sync.runs where connection_id = :id
             order by id desc limit {_MOST_RUNS}) newest
     cross join lateral jsonb_path_query(resources, '$.*.drift.*.* ? (@ > 0)') as number
     where finished_at > clock_timestamp() - interval '{HISTORY_DAYS} days'
     group by began order by began
""")


@dataclass(frozen=True)
class RunBucket:
    """The runs of a connection that ended within three hours, without first loads."""

    began: datetime
    runs: int
    failed: int
    created: int
    updated: int
    deleted: int
    restored: int
    longest_seconds: float
    """Duration of the longest run."""
    oldest_seconds: float | None
    """How old data was when a run replaced it: from the begin of the run before to its end."""


@dataclass(frozen=True)
class DailyDrift:
    """How many changes the full walks of a day found that the deltas had missed."""

    day: datetime
    number: int


def load_run_buckets(db: sa.Connection, connection_id: int) -> list[RunBucket]:
    """Return the runs of the last weeks by three hours, oldest first."""
    return [RunBucket(*row) for row in db.execute(_BUCKETS, {"id": connection_id})]


def load_drift(db: sa.Connection, connection_id: int) -> list[DailyDrift]:
    """Return the drift that full walks of the last weeks found, by day, oldest first."""
    return [DailyDrift(*row) for row in db.execute(_DRIFT, {"id": connection_id})]
