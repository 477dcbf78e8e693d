"""Measures memory and time of a worker's process by size of the tenant."""

from typing import Any

from benchmarks.bench import Bench, Size
from benchmarks.processes import MeasurementFailed
from benchmarks.results import OURS, Scenario, SpeedTarget
from benchmarks.scenarios.checks import CONTOSO, check_rows

GROWTH = "peak memory, the largest tenant against the smallest"
TIME = "time for each user, the largest tenant against the smallest"


def _name_peak(count: int) -> str:
    return f"peak memory of a worker's process, {count:,} users"


def _name_rate(count: int) -> str:
    return f"first load in slices, {count:,} users"


def choose_sizes(size: Size) -> tuple[int, ...]:
    """Return the numbers of users of the tenants."""
    if size is Size.FULL:
        return 10_000, 100_000, 1_000_000
    return (2_000, 20_000) if size is Size.QUICK else (300, 1200)


def run(bench: Bench) -> None:
    """Run once, as the largest takes minutes and memory hardly varies."""
    bench.round = 0
    found = {count: _measure_first_load(bench, count) for count in choose_sizes(bench.size)}
    least, most = min(found), max(found)
    growth = found[most]["peak_mb"] / found[least]["peak_mb"]
    bench.record(GROWTH, growth, "x", more_is_better=False)
    slower = found[most]["seconds"] / most / (found[least]["seconds"] / least)
    bench.record(TIME, slower, "x", more_is_better=False)
    bench.add_note(
        "with Celery loaded, as in a worker; a first load, then a full walk, in one process"
    )


def _measure_first_load(bench: Bench, count: int) -> dict[str, Any]:
    environment = bench.environment
    environment.tenant_process.send("remove")
    environment.tenant_process.connect(CONTOSO, users=count, groups=2, sites=2, seed=11)
    base = environment.create_enrolled()
    with environment.use_clone(base) as url:
        asked = {"connection_id": 1, "trigger": "backfill", "walk_again": True}
        figures = environment.run_measured("benchmarks.children.slices", asked, url)
        if figures["state"] != "succeeded":
            raise MeasurementFailed(f"the first load of {count:,} users ended {figures['state']}")
        check_rows(bench, url, "users", count)
    environment.drop(base)
    bench.record(_name_peak(count), figures["peak_mb"], "MB", figures, more_is_better=False)
    bench.record_rate(_name_rate(count), count, figures, "rows")
    return figures


def _build_targets() -> tuple[SpeedTarget, ...]:
    peaks = [SpeedTarget(_name_peak(count), at_most=120) for count in (10_000, 1_000_000)]
    return (*peaks, SpeedTarget(GROWTH, at_most=1.15))


SCENARIO = Scenario("memory", f"memory of {OURS} by the size of a tenant", run, _build_targets())
