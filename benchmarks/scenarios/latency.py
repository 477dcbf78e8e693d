"""200 ms before each answer: how near one walk comes to what the network allows, and whether the
walks of a connection overlap."""

from benchmarks.bench import Bench
from benchmarks.processes import measured
from benchmarks.results import Scenario, Target
from benchmarks.scenarios.mixed import mixed
from benchmarks.scenarios.people import CONTOSO, asked, check_rows, warm

SECONDS = 0.2
DRAIN = "limit: reading alone, page after page"
WALK = "users, first load: share of the network-bound limit (pages x 200 ms)"
CALLS = "users, first load: share of what its calls take one after another"
MIXED = "mixed tenant: time for each second of its longest walk"


def run(bench: Bench) -> None:
    count = bench.pick(full=100_000, quick=10_000, tiny=1200)
    for _ in bench.rounds():
        _walk(bench, count)
        _mixed(bench, bench.pick(full=20_000, quick=2_000, tiny=200))
    pages = -(-count // 999)
    bench.say(f"{count:,} users: {pages} pages, {pages * SECONDS:.1f} s at least")
    bench.say(f"'{DRAIN}' throws away what it reads; it makes no call but those for pages")


def _walk(bench: Bench, count: int) -> None:
    ground = bench.ground
    ground.tenants.ask("remove")
    ground.tenants.connect(CONTOSO, users=count, groups=2, sites=2, seed=11)
    base = ground.enrolled()
    warm(bench)
    ground.tenants.ask("latency", seconds=SECONDS)
    with ground.copy_of(base) as url:
        figures = ground.sync(url, "--resource", "users")
        check_rows(bench, url, "users", count)
    limit = -(-count // 999) * SECONDS
    bare = measured("benchmarks.children.drain", asked(bench))
    bench.note(WALK, limit / bare["seconds"], "of the limit", bare, who=DRAIN)
    bench.note(WALK, limit / figures["seconds"], "of the limit", figures)
    calls = figures["report"]["calls"] * SECONDS
    bench.note(CALLS, calls / figures["seconds"], "of the limit", figures)
    ground.drop(base)


def _mixed(bench: Bench, size: int) -> None:
    """Calls of each resource are counted; the longest chain of them is the least it can take."""
    ground = bench.ground
    ground.tenants.ask("remove")
    ground.tenants.connect(CONTOSO, **mixed(size))
    base = ground.enrolled()
    ground.tenants.ask("latency", seconds=SECONDS)
    ground.tenants.ask("calls")
    with ground.copy_of(base) as url:
        figures = ground.sync(url)
    told = ground.tenants.ask("calls")["graph"]
    longest = max(count for shape, count in told.items() if "batch" not in shape) * SECONDS
    ratio = figures["seconds"] / longest
    bench.note(MIXED, ratio, "s a second", figures, more_is_better=False)
    ground.drop(base)


SCENARIO = Scenario(
    "latency",
    "200 ms before each answer",
    run,
    targets=(Target(WALK, at_least=0.97), Target(MIXED, at_most=1.25)),
)
