"""200 ms before each response: how close a walk comes to the network's limit, and whether the
walks of a connection overlap."""

from benchmarks.bench import Bench
from benchmarks.processes import run_measured
from benchmarks.results import Scenario, SpeedTarget
from benchmarks.scenarios.checks import CONTOSO, build_arguments, check_rows, warm_pages
from benchmarks.scenarios.mixed import build_mixed_tenant

SECONDS = 0.2
DRAIN = "limit: reading alone, page after page"
WALK = "users, first load: share of the network-bound limit (pages x 200 ms)"
CALLS = "users, first load: share of what its calls take one after another"
MIXED = "mixed tenant: time for each second of its longest walk"


def run(bench: Bench) -> None:
    count = bench.pick(full=100_000, quick=10_000, tiny=1200)
    for _ in bench.iterate_rounds():
        _measure_walk(bench, count)
        _measure_mixed(bench, bench.pick(full=20_000, quick=2_000, tiny=200))
    pages = -(-count // 999)
    bench.add_note(f"{count:,} users: {pages} pages, {pages * SECONDS:.1f} s at least")
    bench.add_note(f"'{DRAIN}' throws away what it reads; it makes no call but those for pages")


def _measure_walk(bench: Bench, count: int) -> None:
    environment = bench.environment
    environment.tenant_process.send("remove")
    environment.tenant_process.connect(CONTOSO, users=count, groups=2, sites=2, seed=11)
    base = environment.create_enrolled()
    warm_pages(bench)
    environment.tenant_process.send("latency", seconds=SECONDS)
    with environment.use_clone(base) as url:
        figures = environment.sync(url, "--resource", "users")
        check_rows(bench, url, "users", count)
    limit = -(-count // 999) * SECONDS
    bare = run_measured("benchmarks.children.read_limit", build_arguments(bench))
    bench.record(WALK, limit / bare["seconds"], "of the limit", bare, who=DRAIN)
    bench.record(WALK, limit / figures["seconds"], "of the limit", figures)
    calls = figures["report"]["calls"] * SECONDS
    bench.record(CALLS, calls / figures["seconds"], "of the limit", figures)
    environment.drop(base)


def _measure_mixed(bench: Bench, size: int) -> None:
    """Measure a mixed tenant against its lower bound, the longest chain of calls of a resource."""
    environment = bench.environment
    environment.tenant_process.send("remove")
    environment.tenant_process.connect(CONTOSO, **build_mixed_tenant(size))
    base = environment.create_enrolled()
    environment.tenant_process.send("latency", seconds=SECONDS)
    environment.tenant_process.send("calls")
    with environment.use_clone(base) as url:
        figures = environment.sync(url)
    calls = environment.tenant_process.send("calls")["graph"]
    longest = max(count for shape, count in calls.items() if "batch" not in shape) * SECONDS
    ratio = figures["seconds"] / longest
    bench.record(MIXED, ratio, "s a second", figures, more_is_better=False)
    environment.drop(base)


SCENARIO = Scenario(
    "latency",
    "200 ms before each answer",
    run,
    targets=(SpeedTarget(WALK, at_least=0.97), SpeedTarget(MIXED, at_most=1.25)),
)
