"""Customers who arrive together: how fast they are loaded, and how much others are delayed.

Small ones first, as fast as the machine can; then large ones, while the small ones are synced on
schedule and a person requests one of them.
"""

import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks.bench import Bench
from benchmarks.processes import MeasurementFailed
from benchmarks.results import Scenario, SpeedTarget
from benchmarks.service import run_service

RATE = "small customers loaded a second, no limit"
OLDEST = "oldest small customer while large ones load, in intervals"
DONE = "resync that a person asks for is done, while large ones load"

_SMALL = "c.nango_connection_id not like 'large-%'"
_LOADED = "select count(*) from sync.runs where trigger = 'backfill' and state = 'succeeded'"
_SPAN = """
    select extract(epoch from max(finished_at) - min(started_at))::float8 from sync.runs
     where trigger = 'backfill' and state = 'succeeded'
"""
_LOADING = "select count(*) from sync.runs where trigger = 'backfill' and state = 'running'"
_AGE = f"""
    select max(extract(epoch from clock_timestamp() - s.fresh_at))::float8
      from sync.streams s join sync.connections c on c.id = s.connection_id
     where s.resource in ('users', 'groups') and {_SMALL}
"""
_ASK = f"""
    update sync.connections set requested_at = clock_timestamp(), due_at = clock_timestamp()
     where id = (select min(c.id) from sync.connections c where {_SMALL})
"""
_ANSWERED = f"""
    select requested_at is null from sync.connections
     where id = (select min(c.id) from sync.connections c where {_SMALL})
"""


def run(bench: Bench) -> None:
    bench.round = 0
    ground = bench.environment
    small = bench.pick(full=500, quick=60, tiny=4)
    large = bench.pick(full=20, quick=6, tiny=2)
    users = bench.pick(full=150_000, quick=20_000, tiny=12_000)
    interval = bench.pick(full=120, quick=30, tiny=5)
    for number in range(small):
        ground.tenant_process.connect(
            f"small-{number}", users=5, groups=1, sites=1, seed=1000 + number
        )
    url = ground.create_enrolled()
    names = [f"large-{number}" for number in range(large)]
    clocks = {"DELTA": interval, "DISCOVERY": 2}
    environment = ground.build_variables(
        url, **{f"TENANT_MIRROR_{name}_SECONDS": str(value) for name, value in clocks.items()}
    )

    def one(statement: str) -> float:
        return float(ground.query(url, statement)[0][0] or 0)

    with tempfile.TemporaryDirectory() as logs, run_service(environment, Path(logs), concurrency=4):
        _wait(lambda: one(_LOADED) >= small, 60 + 2 * small, "first loads of small customers")
        bench.record(RATE, small / one(_SPAN), "a second")
        for number, name in enumerate(names):
            ground.tenant_process.connect(name, users=users, groups=5, seed=100 + number)
        _wait(lambda: one(_LOADING) > 0, 120, "the first large customer")
        ground.query(url, _ASK)
        asked, done, ages = time.monotonic(), 0.0, [0.0]
        until = time.monotonic() + 2 * interval
        while time.monotonic() < until and one(_LOADED) < small + large:
            ages.append(one(_AGE))
            if not done and one(_ANSWERED):
                done = time.monotonic()
            time.sleep(0.5)
    if not done:
        raise MeasurementFailed("the resync was not done while large customers were loaded")
    bench.record(DONE, done - asked, "s", more_is_better=False)
    bench.record(OLDEST, max(ages) / interval, "intervals", more_is_better=False)
    ground.drop(url)
    bench.add_note(
        f"{small:,} customers of 5 users, then {large} of {users:,}; interval {interval} s; "
        "four processes for first loads and four for the rest"
    )


def _wait(holds: Callable[[], bool], seconds: float, what: str) -> None:
    until = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > until:
            raise MeasurementFailed(f"{what}: not done within {seconds:.0f} s")
        time.sleep(0.5)


SCENARIO = Scenario(
    "onboarding",
    "customers who arrive together",
    run,
    targets=(SpeedTarget(DONE, at_most=5), SpeedTarget(OLDEST, at_most=160 / 120)),
)
