"""Measures a tick with thousands of enrolled connections, all due."""

from typing import Any

import redis

from benchmarks.bench import Bench
from benchmarks.processes import MeasurementFailed
from benchmarks.results import Scenario, SpeedTarget
from models.resources import STREAMED

TICK = "tick, all connections due"
IDLE = "tick, nothing due"
_LOADED = """
    insert into sync.streams (connection_id, resource, phase, first_complete_at, due_at)
    select c.id, r.name, 'delta', now(), now()
      from sync.connections c
     cross join unnest(%s::text[]) as r(name)
        on conflict do nothing
"""


def run(bench: Bench) -> None:
    count = bench.pick(full=10_000, quick=1_000, tiny=50)
    ticks = bench.pick(full=10, quick=5, tiny=2)
    environment = bench.environment
    environment.tenant_process.send(
        "share", connections=count, users=10, groups=1, sites=1, seed=17
    )
    url = environment.create_enrolled()
    environment.query(url, _LOADED, [one.name for one in STREAMED])
    environment.query(
        url,
        "insert into sync.leases (connection_id) select id from sync.connections"
        " on conflict do nothing",
    )
    environment.query(url, "update sync.connections set due_at = now()")
    environment.query(url, "analyze")
    environment.flush_servers()
    figures = environment.run_measured("benchmarks.children.ticks", {"ticks": ticks}, url)
    broker: Any = redis.Redis.from_url(environment.redis_url)
    sent = sum(broker.llen(key) for key in broker.keys("tenant-mirror:scheduled*"))
    broker.close()
    if not sent:
        raise MeasurementFailed("the ticks sent nothing on its way")
    for bench.round, seconds in enumerate(figures["ticks"]):
        bench.record(TICK, seconds, "s", more_is_better=False)
    environment.query(url, "update sync.connections set due_at = now() + interval '1 hour'")
    figures = environment.run_measured("benchmarks.children.ticks", {"ticks": ticks}, url)
    for bench.round, seconds in enumerate(figures["ticks"]):
        bench.record(IDLE, seconds, "s", more_is_better=False)
    environment.drop(url)
    bench.add_note(f"{count:,} connections enrolled; {sent:,} sent in {ticks} ticks")


SCENARIO = Scenario(
    "dispatch", "dispatching many connections", run, targets=(SpeedTarget(TICK, at_most=1.0),)
)
