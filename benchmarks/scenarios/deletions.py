"""The deletion of one big group: time and memory by the number of its members."""

from typing import Any

from benchmarks.bench import Bench, Size
from benchmarks.processes import Failed
from benchmarks.results import OURS, Scenario, Target
from benchmarks.scenarios.people import CONTOSO

GROWTH = "peak memory, the largest group against the smallest"
TIME = "time for each membership, the largest group against the smallest"


def _rate(count: int) -> str:
    return f"deletion of a group of {count:,} members"


def sizes(size: Size) -> tuple[int, int]:
    """How many members the groups have."""
    if size is Size.FULL:
        return 30_000, 300_000
    return (5_000, 20_000) if size is Size.QUICK else (300, 3000)


def run(bench: Bench) -> None:
    """Once only: the larger group takes a minute to load."""
    bench.round = 0
    small, large = (_deleted(bench, count) for count in sizes(bench.size))
    bench.note(GROWTH, large["peak_mb"] / small["peak_mb"], "x", more_is_better=False)
    slower = large["each"] / small["each"]
    bench.note(TIME, slower, "x", more_is_better=False)
    bench.say("a delta round that tells of nothing but the group; all memberships have events")


def _deleted(bench: Bench, count: int) -> dict[str, Any]:
    ground = bench.ground
    ground.tenants.ask("remove")
    ground.tenants.connect(
        CONTOSO, users=count, groups=1, big_groups=1, big_group_members=count, sites=2, seed=14
    )
    base = ground.enrolled()
    ground.sync(base)
    ground.tenants.ask("delete_group", connection=CONTOSO)
    with ground.copy_of(base) as url:
        figures = ground.sync(url, "--resource", "groups")
        live = "select count(*) from directory.group_members where deleted_at is null"
        if left := ground.ask(url, live)[0][0]:
            raise Failed(f"{left:,} memberships of the deleted group are live")
    ground.drop(base)
    bench.rate(_rate(count), count, figures, "memberships")
    return {**figures, "each": figures["seconds"] / count}


SCENARIO = Scenario(
    "deletions",
    f"deletion of a big group by {OURS}",
    run,
    (Target(GROWTH, at_most=1.2), Target(TIME, at_most=1.3)),
)
