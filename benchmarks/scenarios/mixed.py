"""Measures the first sync of a mixed tenant."""

from typing import Any

from benchmarks.bench import Bench
from benchmarks.results import Scenario
from benchmarks.scenarios.checks import CONTOSO, check_rows

FIRST = "mixed tenant, first load of everything"
AGAIN = "mixed tenant, full walk of everything, nothing changed"


def build_mixed_tenant(size: int) -> dict[str, Any]:
    """Return the parameters of a tenant with everything in proportion to its users."""
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
    environment = bench.environment
    environment.tenant_process.connect(CONTOSO, **build_mixed_tenant(size))
    counts = environment.tenant_process.send("count", connection=CONTOSO)
    objects = sum(counts.values())
    base = environment.create_enrolled()
    for _ in bench.iterate_rounds():
        with environment.use_clone(base) as url:
            figures = environment.sync(url)
            for resource, count in counts.items():
                check_rows(bench, url, resource, count)
            bench.record_rate(FIRST, objects, figures, "rows")
            environment.flush_servers()
            bench.record_rate(AGAIN, objects, environment.sync(url, "--full"), "rows")
    environment.drop(base)
    changes = ", ".join(f"{count:,} {name.replace('_', ' ')}" for name, count in counts.items())
    bench.add_note(changes)


SCENARIO = Scenario("mixed", "everything of a mixed tenant, no latency", run)
