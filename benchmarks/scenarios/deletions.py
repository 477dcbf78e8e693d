"""Measures the deletion of a big group: time and memory by number of members."""

from typing import Any

from benchmarks.bench import Bench, Size
from benchmarks.processes import MeasurementFailed
from benchmarks.results import OURS, Scenario, SpeedTarget
from benchmarks.scenarios.checks import CONTOSO

GROWTH = "peak memory, the largest group against the smallest"
TIME = "time for each membership, the largest group against the smallest"


def _name_rate(count: int) -> str:
    return f"deletion of a group of {count:,} members"


def choose_sizes(size: Size) -> tuple[int, int]:
    """Return the numbers of members of the groups."""
    if size is Size.FULL:
        return 30_000, 300_000
    return (5_000, 20_000) if size is Size.QUICK else (300, 3000)


def run(bench: Bench) -> None:
    """Run once, as the larger group takes a minute to load."""
    bench.round = 0
    small, large = (_measure_deletion(bench, count) for count in choose_sizes(bench.size))
    bench.record(GROWTH, large["peak_mb"] / small["peak_mb"], "x", more_is_better=False)
    slower = large["each"] / small["each"]
    bench.record(TIME, slower, "x", more_is_better=False)
    bench.add_note("a delta round that tells of nothing but the group; all memberships have events")


def _measure_deletion(bench: Bench, count: int) -> dict[str, Any]:
    environment = bench.environment
    environment.tenant_process.send("remove")
    environment.tenant_process.connect(
        CONTOSO, users=count, groups=1, big_groups=1, big_group_members=count, sites=2, seed=14
    )
    base = environment.create_enrolled()
    environment.sync(base)
    environment.tenant_process.send("delete_group", connection=CONTOSO)
    with environment.use_clone(base) as url:
        figures = environment.sync(url, "--resource", "groups")
        live = "select count(*) from directory.group_members where deleted_at is null"
        if left := environment.query(url, live)[0][0]:
            raise MeasurementFailed(f"{left:,} memberships of the deleted group are live")
    environment.drop(base)
    bench.record_rate(_name_rate(count), count, figures, "memberships")
    return {**figures, "each": figures["seconds"] / count}


SCENARIO = Scenario(
    "deletions",
    f"deletion of a big group by {OURS}",
    run,
    (SpeedTarget(GROWTH, at_most=1.2), SpeedTarget(TIME, at_most=1.3)),
)
