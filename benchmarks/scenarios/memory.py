"""Memory and time of a worker's process by the size of the tenant."""

from typing import Any

from benchmarks.bench import Bench, Size
from benchmarks.processes import Failed
from benchmarks.results import OURS, Scenario, Target
from benchmarks.scenarios.people import CONTOSO, check_rows

GROWTH = "peak memory, the largest tenant against the smallest"
TIME = "time for each user, the largest tenant against the smallest"


def _peak(count: int) -> str:
    return f"peak memory of a worker's process, {count:,} users"


def _rate(count: int) -> str:
    return f"first load in slices, {count:,} users"


def sizes(size: Size) -> tuple[int, ...]:
    """How many users the tenants have."""
    if size is Size.FULL:
        return 10_000, 100_000, 1_000_000
    return (2_000, 20_000) if size is Size.QUICK else (300, 1200)


def run(bench: Bench) -> None:
    """Once only: the largest takes minutes, and memory hardly varies."""
    bench.round = 0
    found = {count: _first_load(bench, count) for count in sizes(bench.size)}
    least, most = min(found), max(found)
    growth = found[most]["peak_mb"] / found[least]["peak_mb"]
    bench.note(GROWTH, growth, "x", more_is_better=False)
    slower = found[most]["seconds"] / most / (found[least]["seconds"] / least)
    bench.note(TIME, slower, "x", more_is_better=False)
    bench.say("with Celery loaded, as in a worker; a first load, then a full walk, in one process")


def _first_load(bench: Bench, count: int) -> dict[str, Any]:
    ground = bench.ground
    ground.tenants.ask("remove")
    ground.tenants.connect(CONTOSO, users=count, groups=2, sites=2, seed=11)
    base = ground.enrolled()
    with ground.copy_of(base) as url:
        asked = {"connection_id": 1, "trigger": "backfill", "walk_again": True}
        figures = ground.measured("benchmarks.children.slices", asked, url)
        if figures["state"] != "succeeded":
            raise Failed(f"the first load of {count:,} users ended {figures['state']}")
        check_rows(bench, url, "users", count)
    ground.drop(base)
    bench.note(_peak(count), figures["peak_mb"], "MB", figures, more_is_better=False)
    bench.rate(_rate(count), count, figures, "rows")
    return figures


def _targets() -> tuple[Target, ...]:
    peaks = [Target(_peak(count), at_most=120) for count in (10_000, 1_000_000)]
    return (*peaks, Target(GROWTH, at_most=1.15))


SCENARIO = Scenario("memory", f"memory of {OURS} by the size of a tenant", run, _targets())
