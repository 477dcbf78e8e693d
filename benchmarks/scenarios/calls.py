"""Calls to Nango, the scarce resource: counted by the simulated Nango, not by us."""

from typing import Any

from benchmarks.bench import Bench
from benchmarks.ground import Ground
from benchmarks.processes import Failed
from benchmarks.results import Scenario, Target
from benchmarks.scenarios.people import CONTOSO

USERS = "calls beyond one for each page of 999, first load of users"
QUIET = "calls of a quiet tick"
GROUPS = "calls for a first load of groups with members"
MANY_GROUPS = 50_000


def run(bench: Bench) -> None:
    """Once: the numbers do not vary."""
    bench.round = 0
    users = bench.pick(full=20_000, quick=5_000, tiny=1200)
    ground = bench.ground
    ground.tenants.connect(CONTOSO, users=users, groups=20, sites=5, seed=14)
    base = ground.enrolled()
    with ground.copy_of(base) as url:
        used = _calls(ground, url, "--resource", "users")
        bench.note(USERS, used - -(-users // 999), "calls", more_is_better=False)
        ground.sync(url)
        bench.note(QUIET, _quiet_tick(bench, url), "calls", more_is_better=False)
    ground.drop(base)
    ground.tenants.ask("remove")
    _groups(bench, bench.pick(full=MANY_GROUPS, quick=2_000, tiny=50))


def _calls(ground: Ground, url: str, *words: str) -> int:
    ground.tenants.ask("calls")
    ground.sync(url, *words)
    return int(ground.tenants.ask("calls")["kinds"]["proxy"])


def _quiet_tick(bench: Bench, url: str) -> int:
    """A slice by the clock, with users and groups due, and nothing changed since."""
    ground = bench.ground
    ground.ask(url, "update sync.streams set due_at = now() where resource in ('users', 'groups')")
    ground.tenants.ask("calls")
    asked: dict[str, Any] = {"connection_id": 1, "trigger": "scheduled"}
    figures = ground.measured("benchmarks.children.slices", asked, url)
    if figures["state"] != "succeeded":
        raise Failed(f"the quiet tick ended {figures['state']}")
    return int(ground.tenants.ask("calls")["kinds"]["proxy"])


def _groups(bench: Bench, groups: int) -> None:
    ground = bench.ground
    ground.tenants.connect(CONTOSO, users=2000, groups=groups, members_per_group=8, seed=15)
    base = ground.enrolled()
    ground.sync(base, "--resource", "users")
    with ground.copy_of(base) as url:
        bench.note(
            GROUPS, _calls(ground, url, "--resource", "groups"), "calls", more_is_better=False
        )
    ground.drop(base)
    bench.say(f"{groups:,} groups with 8 members on average")


SCENARIO = Scenario(
    "calls",
    "calls to Nango",
    run,
    targets=(
        Target(USERS, at_most=2, any_size=True),
        Target(QUIET, at_least=1, at_most=1, any_size=True),
        Target(GROUPS, at_most=2_600),
    ),
)
