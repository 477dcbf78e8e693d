"""Counts calls to Nango, the scarce resource, at the simulated Nango."""

from typing import Any

from benchmarks.bench import Bench
from benchmarks.environment import Environment
from benchmarks.processes import MeasurementFailed
from benchmarks.results import Scenario, SpeedTarget
from benchmarks.scenarios.checks import CONTOSO

USERS = "calls beyond one for each page of 999, first load of users"
QUIET = "calls of a quiet tick"
GROUPS = "calls for a first load of groups with members"
MANY_GROUPS = 50_000


def run(bench: Bench) -> None:
    """Run once, as the numbers do not vary."""
    bench.round = 0
    users = bench.pick(full=20_000, quick=5_000, tiny=1200)
    environment = bench.environment
    environment.tenant_process.connect(CONTOSO, users=users, groups=20, sites=5, seed=14)
    base = environment.create_enrolled()
    with environment.use_clone(base) as url:
        used = _count_calls(environment, url, "--resource", "users")
        bench.record(USERS, used - -(-users // 999), "calls", more_is_better=False)
        environment.sync(url)
        bench.record(QUIET, _measure_quiet_tick(bench, url), "calls", more_is_better=False)
    environment.drop(base)
    environment.tenant_process.send("remove")
    _measure_groups(bench, bench.pick(full=MANY_GROUPS, quick=2_000, tiny=50))


def _count_calls(ground: Environment, url: str, *words: str) -> int:
    ground.tenant_process.send("calls")
    ground.sync(url, *words)
    return int(ground.tenant_process.send("calls")["kinds"]["proxy"])


def _measure_quiet_tick(bench: Bench, url: str) -> int:
    """Count the calls of a scheduled slice with users and groups due and no changes."""
    environment = bench.environment
    environment.query(
        url, "update sync.streams set due_at = now() where resource in ('users', 'groups')"
    )
    environment.tenant_process.send("calls")
    asked: dict[str, Any] = {"connection_id": 1, "trigger": "scheduled"}
    figures = environment.run_measured("benchmarks.children.slices", asked, url)
    if figures["state"] != "succeeded":
        raise MeasurementFailed(f"the quiet tick ended {figures['state']}")
    return int(environment.tenant_process.send("calls")["kinds"]["proxy"])


def _measure_groups(bench: Bench, groups: int) -> None:
    environment = bench.environment
    environment.tenant_process.connect(
        CONTOSO, users=2000, groups=groups, members_per_group=8, seed=15
    )
    base = environment.create_enrolled()
    environment.sync(base, "--resource", "users")
    with environment.use_clone(base) as url:
        bench.record(
            GROUPS,
            _count_calls(environment, url, "--resource", "groups"),
            "calls",
            more_is_better=False,
        )
    environment.drop(base)
    bench.add_note(f"{groups:,} groups with 8 members on average")


SCENARIO = Scenario(
    "calls",
    "calls to Nango",
    run,
    targets=(
        SpeedTarget(USERS, at_most=2, any_size=True),
        SpeedTarget(QUIET, at_least=1, at_most=1, any_size=True),
        SpeedTarget(GROUPS, at_most=2_600),
    ),
)
