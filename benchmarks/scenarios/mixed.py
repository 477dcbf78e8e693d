"""Everything of a mixed tenant, as a first sync brings it."""

from typing import Any

from benchmarks.bench import Bench
from benchmarks.results import Scenario
from benchmarks.scenarios.people import CONTOSO, check_rows

FIRST = "mixed tenant, first load of everything"
AGAIN = "mixed tenant, full walk of everything, nothing changed"


def mixed(size: int) -> dict[str, Any]:
    """A tenant with everything in proportion to its users."""
    return {
        "users": size,
        "groups": size // 20,
        "members_per_group": 30,
        "big_groups": 2,
        "big_group_members": size // 3,
        "sites": size // 20,
        "role_definitions": 90,
        "role_assignments": min(500, size // 20),
        "seed": 13,
    }


def run(bench: Bench) -> None:
    size = bench.pick(full=30_000, quick=3_000, tiny=300)
    ground = bench.ground
    ground.tenants.connect(CONTOSO, **mixed(size))
    counts = ground.tenants.ask("count", connection=CONTOSO)
    objects = sum(counts.values())
    base = ground.enrolled()
    for _ in bench.rounds():
        with ground.copy_of(base) as url:
            figures = ground.sync(url)
            for resource, count in counts.items():
                check_rows(bench, url, resource, count)
            bench.rate(FIRST, objects, figures, "rows")
            ground.settle()
            bench.rate(AGAIN, objects, ground.sync(url, "--full"), "rows")
    ground.drop(base)
    told = ", ".join(f"{count:,} {name.replace('_', ' ')}" for name, count in counts.items())
    bench.say(told)


SCENARIO = Scenario("mixed", "everything of a mixed tenant, no latency", run)
