"""Measures how long a change takes to become a row, with real beat, workers and intervals."""

import tempfile
import time
from pathlib import Path
from random import Random

from benchmarks.bench import Bench
from benchmarks.processes import MeasurementFailed, wait_until
from benchmarks.results import Scenario, SpeedTarget
from benchmarks.service import run_service

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
    ground, number = bench.environment, bench.pick(full=40, quick=6, tiny=2)
    names = [f"customer-{one:02}" for one in range(number)]
    for one, name in enumerate(names):
        ground.tenant_process.connect(name, users=50, groups=3, sites=2, seed=100 + one)
    url = ground.create_enrolled()
    ground.run_command(url, "sync", "--all", "--json")
    ground.flush_servers()
    environment = ground.build_variables(
        url,
        TENANT_MIRROR_DELTA_SECONDS=str(INTERVAL),
        TENANT_MIRROR_TICK_SECONDS=str(TICK),
    )
    # The first load has set due times by the longer default interval.
    ground.query(
        url, "update sync.streams set due_at = now() where resource in ('users', 'groups')"
    )
    ground.query(url, "update sync.connections set due_at = now()")
    spread = bench.pick(full=40, quick=12, tiny=3)
    rng, changed = Random(18), {}
    with tempfile.TemporaryDirectory() as logs, run_service(environment, Path(logs)):
        wait_until(lambda: _count_rounds(bench, url) >= number, 60, "a round of each connection")
        for name in names:
            time.sleep(rng.random() * 2 * spread / number)
            changed[name] = ground.tenant_process.send("change", connection=name, users=1, seed=1)[
                "at"
            ]
        wait_until(lambda: ground.query(url, _COUNT)[0][0] >= number, 60, "all changes")
    seen = {str(name): float(at) for name, at in ground.query(url, _WHEN)}
    late = sorted(seen[name] - at - INTERVAL for name, at in changed.items())
    if len(seen) != number:
        raise MeasurementFailed(f"changes of {len(seen)} connections came of {number}")
    ground.drop(url)
    bench.record(LATE, late[-1], "s", more_is_better=False)
    bench.record(USUAL, late[len(late) // 2], "s", more_is_better=False)
    bench.add_note(
        f"{number} connections, interval {INTERVAL} s, a look every {TICK} s; below 0: sooner"
    )


def _count_rounds(bench: Bench, url: str) -> int:
    statement = (
        "select count(distinct connection_id) from sync.runs"
        " where trigger = 'scheduled' and state = 'succeeded'"
    )
    return int(bench.environment.query(url, statement)[0][0])


SCENARIO = Scenario(
    "freshness",
    "from a change to its row",
    run,
    quick=False,
    targets=(SpeedTarget(LATE, at_most=5.0, any_size=True),),
)
