"""How long a change in a tenant takes to be a row: real beat, workers and clocks."""

import tempfile
import time
from pathlib import Path
from random import Random

from benchmarks.bench import Bench
from benchmarks.processes import Failed, until
from benchmarks.results import Scenario, Target
from benchmarks.service import serving

LATE = "longest time from a change to its row, beyond the interval"
USUAL = "median time from a change to its row, beyond the interval"
INTERVAL = 10
TICK = 5
_COUNT = "select count(*) from events.change_events where change = 'updated'"
_WHEN = (
    "select c.nango_connection_id, extract(epoch from e.occurred_at)::float8"
    " from events.change_events e join sync.connections c on c.id = e.connection_id"
    " where e.change = 'updated'"
)


def run(bench: Bench) -> None:
    bench.round = 0
    ground, number = bench.ground, bench.pick(full=40, quick=6, tiny=2)
    names = [f"customer-{one:02}" for one in range(number)]
    for one, name in enumerate(names):
        ground.tenants.connect(name, users=50, groups=3, sites=2, seed=100 + one)
    url = ground.enrolled()
    ground.command(url, "sync", "--all", "--json")
    ground.settle()
    environment = ground.environment(
        url,
        TENANT_MIRROR_DELTA_SECONDS=str(INTERVAL),
        TENANT_MIRROR_TICK_SECONDS=str(TICK),
    )
    # What was loaded just now is due by the longer clock of before.
    ground.ask(url, "update sync.streams set due_at = now() where resource in ('users', 'groups')")
    ground.ask(url, "update sync.connections set due_at = now()")
    spread = bench.pick(full=40, quick=12, tiny=3)
    rng, changed = Random(18), {}
    with tempfile.TemporaryDirectory() as logs, serving(environment, Path(logs)):
        until(lambda: _rounds(bench, url) >= number, 60, "a round of each connection")
        for name in names:
            time.sleep(rng.random() * 2 * spread / number)
            changed[name] = ground.tenants.ask("change", connection=name, users=1, seed=1)["at"]
        until(lambda: ground.ask(url, _COUNT)[0][0] >= number, 60, "all changes")
    seen = {str(name): float(at) for name, at in ground.ask(url, _WHEN)}
    late = sorted(seen[name] - at - INTERVAL for name, at in changed.items())
    if len(seen) != number:
        raise Failed(f"changes of {len(seen)} connections came of {number}")
    ground.drop(url)
    bench.note(LATE, late[-1], "s", more_is_better=False)
    bench.note(USUAL, late[len(late) // 2], "s", more_is_better=False)
    bench.say(
        f"{number} connections, interval {INTERVAL} s, a look every {TICK} s; below 0: sooner"
    )


def _rounds(bench: Bench, url: str) -> int:
    statement = (
        "select count(distinct connection_id) from sync.runs"
        " where trigger = 'scheduled' and state = 'succeeded'"
    )
    return int(bench.ground.ask(url, statement)[0][0])


SCENARIO = Scenario(
    "freshness",
    "from a change to its row",
    run,
    quick=False,
    targets=(Target(LATE, at_most=5.0, any_size=True),),
)
