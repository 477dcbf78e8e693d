"""Measures the start of the command line, and a look at a large fleet."""

import subprocess
import sys
import time
from pathlib import Path

from benchmarks.bench import Bench
from benchmarks.processes import MeasurementFailed
from benchmarks.results import Scenario, SpeedTarget
from benchmarks.scenarios.checks import CONTOSO
from tests.support.fleet import fill_fleet, revive_service

HELP = "tenant-mirror --help"
STATUS = "tenant-mirror status, one connection"
FLEET = "tenant-mirror status, all connections"


def run(bench: Bench) -> None:
    ground = bench.environment
    ground.tenant_process.connect(CONTOSO, users=50, groups=2, sites=2, seed=16)
    url = ground.create_enrolled()
    ground.sync(url)
    environment = ground.build_variables(url)
    _time_command(["status"], environment)  # Python writes its bytecode once
    times = bench.pick(full=7, quick=2, tiny=1)
    for bench.round in range(times):
        for line, words in ((HELP, ["--help"]), (STATUS, ["status"])):
            bench.record(line, _time_command(words, environment), "s", more_is_better=False)
    ground.drop(url)
    _look_at_fleet(bench)


def _look_at_fleet(bench: Bench) -> None:
    """Time a look at thousands of connections, without calls."""
    ground = bench.environment
    number = bench.pick(full=10_000, quick=2_000, tiny=50)
    with ground.use_clone(ground.migrated_url) as url:
        with ground.open_database(url) as database:
            fill_fleet(database, number)
        environment = ground.build_variables(url)
        times = bench.pick(full=7, quick=2, tiny=1)
        for bench.round in range(times):
            with ground.open_database(url) as database:
                revive_service(database)
            bench.record(FLEET, _time_command(["status"], environment), "s", more_is_better=False)
    bench.add_note(f"{number:,} connections in the look at all")


def _time_command(words: list[str], environment: dict[str, str]) -> float:
    """Return the seconds from the start of the process to its end."""
    program = Path(sys.executable).with_name("tenant-mirror")
    start = time.perf_counter()
    done = subprocess.run(
        [str(program), *words], env=environment, capture_output=True, check=False, timeout=60
    )
    seconds = time.perf_counter() - start
    if done.returncode != 0:
        raise MeasurementFailed(f"tenant-mirror {words[0]}: {done.stderr.decode()[-500:]}")
    return seconds


SCENARIO = Scenario(
    "startup",
    "the command line",
    run,
    targets=(
        SpeedTarget(HELP, at_most=0.3, any_size=True),
        SpeedTarget(STATUS, at_most=0.6, any_size=True),
        SpeedTarget(FLEET, at_most=2.0),
    ),
)
