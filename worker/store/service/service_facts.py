"""Load what the judge of conditions needs of the service as a whole: one statement."""

import time
from datetime import datetime, timedelta
from typing import Any, Final

import msgspec
import sqlalchemy as sa
from sqlalchemy import text

from worker.conditions.facts import (
    ClockFacts,
    HaltFacts,
    MissingFacts,
    ServiceFacts,
    WorkerFacts,
)
from worker.core.process.identity import identify_this_process, shorten_identity
from worker.store.service.facts import HALT_SECONDS
from worker.store.service.host_clocks import MAX_ROUND_TRIP_SECONDS, SKEW_SECONDS
from worker.store.service.host_clocks import REPORT_VALID_SECONDS as CLOCK_VALID_SECONDS
from worker.store.service.workers import REPORT_VALID_SECONDS

_LOAD = text("""
    select clock_timestamp(),
           (select coalesce(jsonb_object_agg(name, jsonb_build_object(
                       'value', value, 'at', extract(epoch from updated_at))), '{}')
              from sync.service_state
             where name in ('tick', 'halt', 'missing-connections')
                or starts_with(name, 'clock:')
                   and updated_at > clock_timestamp() - make_interval(secs => :clock)),
           (select coalesce(jsonb_agg(jsonb_build_array(
                       name, queues, processes,
                       extract(epoch from clock_timestamp() - seen_at)) order by name), '[]')
              from sync.workers)
""")
_CLOCK_PREFIX: Final = "clock:"


def load_service_facts(
    db: sa.Connection, *, tick_seconds: float, queues: tuple[str, ...]
) -> ServiceFacts:
    """Return the facts about dispatcher, halt, missing connections, workers and clocks."""
    here, began = time.time(), time.monotonic()
    now, states, workers = db.execute(_LOAD, {"clock": CLOCK_VALID_SECONDS}).one()
    took = time.monotonic() - began
    offset = here + took / 2 - now.timestamp() if took <= MAX_ROUND_TRIP_SECONDS else 0.0
    tick = states.get("tick")
    return ServiceFacts(
        now=now,
        tick_seconds=tick_seconds,
        queues=queues,
        tick_at=None if tick is None else _to_time(tick["at"], now),
        sent_at=_find_sent_time(tick, now),
        held_back=None if tick is None else tick["value"].get("held_back"),
        halt=_build_halt(states.get("halt"), now),
        missing=_build_missing(states.get("missing-connections")),
        workers=tuple(_build_worker(*values) for values in workers),
        clocks=_build_clocks(states, offset),
    )


def _to_time(seconds: float, now: datetime) -> datetime:
    return datetime.fromtimestamp(float(seconds), now.tzinfo)


def _find_sent_time(tick: dict[str, Any] | None, now: datetime) -> datetime | None:
    sent_at = None if tick is None else tick["value"].get("sent_at")
    return None if sent_at is None else _to_time(sent_at, now)


def _build_halt(state: dict[str, Any] | None, now: datetime) -> HaltFacts | None:
    if state is None:
        return None
    since = _to_time(state["at"], now)
    until = since + timedelta(seconds=HALT_SECONDS)
    reason = state["value"].get("reason")
    return HaltFacts(reason, since, until) if now < until and reason is not None else None


def _build_missing(state: dict[str, Any] | None) -> MissingFacts | None:
    if state is None:
        return None
    value = state["value"]
    since = msgspec.convert(value["since"], datetime)
    return MissingFacts(value["reason"], frozenset(value["ids"]), since)


def _build_worker(name: str, queues: list[str], processes: list[str], age: float) -> WorkerFacts:
    seconds = float(age)
    is_alive = seconds < REPORT_VALID_SECONDS
    return WorkerFacts(shorten_identity(name), queues, processes, seconds, is_alive)


def _build_clocks(states: dict[str, Any], offset: float) -> tuple[ClockFacts, ...]:
    """Return for each host the largest difference that one of its processes reports.

    This host, on which perhaps no worker runs, is ``offset`` seconds ahead.
    """
    found: dict[str, float] = {}
    for name, state in states.items():
        if name.startswith(_CLOCK_PREFIX):
            host, seconds = state["value"]["host"], float(state["value"]["seconds"])
            found[host] = max(found.get(host, 0.0), seconds, key=abs)
    if abs(offset) >= SKEW_SECONDS:
        found.setdefault(identify_this_process().host, round(offset, 1))
    return tuple(ClockFacts(host, found[host]) for host in sorted(found))
