"""A tick with thousands of connections enrolled, all of them due."""

from typing import Any

import redis

from benchmarks.bench import Bench
from benchmarks.processes import Failed
from benchmarks.results import Scenario, Target

TICK = "tick, all connections due"
IDLE = "tick, nothing due"
_LOADED = """
    insert into sync.streams (connection_id, resource, phase, first_complete_at, due_at)
    select c.id, r.name, 'delta', now(), now()
      from sync.connections c
     cross join (values ('users'), ('groups'), ('sites'), ('role_definitions'),
                        ('role_assignments')) as r(name)
        on conflict do nothing
"""


def run(bench: Bench) -> None:
    count = bench.pick(full=10_000, quick=1_000, tiny=50)
    ticks = bench.pick(full=10, quick=5, tiny=2)
    ground = bench.ground
    ground.tenants.ask("share", connections=count, users=10, groups=1, sites=1, seed=17)
    url = ground.enrolled()
    ground.ask(url, _LOADED)
    ground.ask(
        url,
        "insert into sync.leases (connection_id) select id from sync.connections"
        " on conflict do nothing",
    )
    ground.ask(url, "update sync.connections set due_at = now()")
    ground.ask(url, "analyze")
    ground.settle()
    figures = ground.measured("benchmarks.children.ticks", {"ticks": ticks}, url)
    broker: Any = redis.Redis.from_url(ground.redis_url)
    sent = sum(broker.llen(key) for key in broker.keys("tenant-mirror:scheduled*"))
    broker.close()
    if not sent:
        raise Failed("the ticks sent nothing on its way")
    for bench.round, seconds in enumerate(figures["ticks"]):
        bench.note(TICK, seconds, "s", more_is_better=False)
    ground.ask(url, "update sync.connections set due_at = now() + interval '1 hour'")
    figures = ground.measured("benchmarks.children.ticks", {"ticks": ticks}, url)
    for bench.round, seconds in enumerate(figures["ticks"]):
        bench.note(IDLE, seconds, "s", more_is_better=False)
    ground.drop(url)
    bench.say(f"{count:,} connections enrolled; {sent:,} sent in {ticks} ticks")


SCENARIO = Scenario(
    "dispatch", "dispatching many connections", run, targets=(Target(TICK, at_most=1.0),)
)
