"""Events to a Redis stream with the real relay: rate, and delay after the commit."""

import json
import subprocess
import time
from typing import Any

import psycopg
import redis

from benchmarks.bench import Bench
from benchmarks.processes import (
    ROOT,
    MeasurementFailed,
    measure_processors,
    read_peak_of,
    read_processor_seconds,
    run_measured,
    wait_until,
)
from benchmarks.results import Scenario
from benchmarks.service import build_relay_command

DRAIN = "events relayed to a stream, all waiting"
LIMIT = "limit: pipelined XADD alone"
SENDING = "events sent to a stream, without reading them"
LIBRARY = "redis-py's own packing"
MIDDLE = "from commit to stream under steady load, median"
LATE = "from commit to stream under steady load, 99 of 100"
_CONNECTION = """
    insert into sync.connections (nango_connection_id, provider_config_key, provider)
    values ('contoso', 'entra', 'microsoft-oauth2-cc')
"""
_WRITE = """
    insert into events.change_events (connection_id, seq, occurred_at, resource, object_id, change,
           changed, before, after, initial)
    select 1, g, clock_timestamp(), 'users', gen_random_uuid()::text, 'updated',
           '{mail,display_name,department}',
           '{"mail": "a@example.com", "display_name": "Somebody", "department": "Sales"}',
           jsonb_build_object('mail', 'b@example.com', 'display_name', 'Somebody ' || g,
                              'department', 'Sales and more of it'), false
      from generate_series(%s::bigint, %s::bigint) as g
"""
_LEASE = """
    insert into sync.leases (connection_id, event_seq, last_event_at) values (1, %s, now())
        on conflict (connection_id) do update
       set event_seq = excluded.event_seq, last_event_at = excluded.last_event_at
"""


def run(bench: Bench) -> None:
    number = bench.pick(full=200_000, quick=30_000, tiny=500)
    environment = bench.environment
    base = environment.clone(environment.migrated_url)
    environment.query(base, _CONNECTION)
    _commit_events(base, 1, number)
    environment.run_command(
        base, "sinks", "add", "bench", "--kind", "redis-stream", "--stream", "bench",
        "--from", "oldest",
    )  # fmt: skip
    client: Any = redis.Redis.from_url(environment.redis_url)
    for _ in bench.iterate_rounds():
        with environment.use_clone(base) as url:
            _measure_drain(bench, url, client, number)
            asked = {
                "redis": environment.redis_url,
                "stream": "bench",
                "to": "limit",
                "at_once": 1000,
            }
            figures = run_measured("benchmarks.children.xadd_limit", asked)
            bench.record_rate(DRAIN, figures["entries"], figures, "events", who=LIMIT)
            sent = run_measured("benchmarks.children.stream_packing", asked)
            bench.record_rate(SENDING, sent["events"], sent["ours"], "events")
            bench.record_rate(SENDING, sent["events"], sent["library"], "events", who=LIBRARY)
            _measure_steady(bench, url, client, number)
    client.close()
    environment.drop(base)
    bench.add_note(f"{number:,} events of one connection wait; then 200 a second, ten in a commit")


def _commit_events(url: str, first: int, last: int) -> float:
    """Commit some events; return the time of the commit."""
    with psycopg.connect(url) as connection:
        connection.execute(_WRITE, (first, last))
        connection.execute(_LEASE, (last,))
        connection.commit()
        return time.time()


def _start_relay(bench: Bench, url: str) -> "subprocess.Popen[bytes]":
    environment = bench.environment.build_variables(url)
    return subprocess.Popen(
        build_relay_command(), env=environment, cwd=ROOT, stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )  # fmt: skip


def _stop_relay(process: "subprocess.Popen[bytes]") -> None:
    process.terminate()
    if process.wait(60) != 0:
        raise MeasurementFailed(f"the relay ended with {process.returncode}")


def _measure_drain(bench: Bench, url: str, client: Any, number: int) -> None:
    """Measure the drain by the stream's ids, which are milliseconds."""
    with measure_processors(bench.environment.pids) as servers:
        process = _start_relay(bench, url)
        wait_until(lambda: client.xlen("bench") >= number, 120, "all events in the stream")
        own = {"cpu": read_processor_seconds(process.pid), "peak_mb": read_peak_of(process.pid)}
        _stop_relay(process)
    first, last = (int(client.xinfo_stream("bench")[name][0].split(b"-")[0])
                   for name in ("first-entry", "last-entry"))  # fmt: skip
    seconds = max(1, last - first) / 1000
    bench.record_rate(DRAIN, number, {"seconds": seconds, **own, **servers}, "events")


def _measure_steady(bench: Bench, url: str, client: Any, written: int) -> None:
    """Measure delays at ten events a commit and twenty commits a second."""
    commits = bench.pick(full=400, quick=80, tiny=10)
    process = _start_relay(bench, url)
    client.delete("bench")
    at: dict[int, float] = {}
    time.sleep(3)  # until the relay has claimed its sink
    with psycopg.connect(url) as connection:
        for number in range(commits):
            first = written + 1 + number * 10
            due = time.monotonic() + 0.05
            connection.execute(_WRITE, (first, first + 9))
            connection.execute(_LEASE, (first + 9,))
            connection.commit()
            at |= dict.fromkeys(range(first, first + 10), time.time())
            time.sleep(max(0.0, due - time.monotonic()))
    wait_until(lambda: client.xlen("bench") >= commits * 10, 60, "all events in the stream")
    _stop_relay(process)
    delays = sorted(_compute_delays(client, at))
    for line, share in ((MIDDLE, 0.5), (LATE, 0.99)):
        value = delays[int(share * (len(delays) - 1))]
        bench.record(line, value, "s", more_is_better=False)
    client.delete("bench")


def _compute_delays(client: Any, at: dict[int, float]) -> list[float]:
    found = []
    for entry, fields in client.xrange("bench"):
        sequence = int(json.loads(fields[b"event"])["sequence"])
        if sequence in at:
            found.append(int(entry.split(b"-")[0]) / 1000 - at[sequence])
    return found


SCENARIO = Scenario("relay", "change events to a Redis stream", run)
