"""Groups with their members: many groups of some, and one group of many."""

import tempfile
from pathlib import Path
from typing import Any

from benchmarks.bench import Bench
from benchmarks.processes import Failed
from benchmarks.results import Scenario, Target
from benchmarks.scenarios.copying import export, lines_of
from benchmarks.scenarios.people import CONTOSO, check_rows

MANY = "memberships, first load, many groups"
ONE = "memberships, first load, one group of many"
QUIET = "memberships, full walk, nothing changed, many groups"
CALLS = "calls for each page of groups/delta"
LIMIT = "limit: COPY of edges and events"


def run(bench: Bench) -> None:
    groups = bench.pick(full=2000, quick=200, tiny=20)
    crowd = bench.pick(full=100_000, quick=10_000, tiny=1000)
    _story(bench, MANY, users=max(1000, crowd // 20), groups=groups, members_per_group=100)
    bench.ground.tenants.ask("remove")
    _story(bench, ONE, users=crowd, groups=1, big_groups=1, big_group_members=crowd)
    bench.say(f"{groups:,} groups of 100 members on average; one group of {crowd:,}")
    bench.say("users are mirrored before the clock starts; group rows are written within it")


def _story(bench: Bench, line: str, **tenant: Any) -> None:
    ground = bench.ground
    ground.tenants.connect(CONTOSO, sites=2, seed=12, **tenant)
    base = ground.enrolled()
    ground.sync(base, "--resource", "users")
    counts = ground.tenants.ask("count", connection=CONTOSO)
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        _first(bench, base, counts["group_members"], line, Path(folder), counted=False)
        for _ in bench.rounds():
            bench.in_turn(
                [
                    lambda: _first(bench, base, counts["group_members"], line, Path(folder)),
                    lambda: _limit(bench, base, counts["group_members"], line, Path(folder)),
                ]
            )
    ground.drop(base)


def _first(
    bench: Bench, base: str, edges: int, line: str, folder: Path, *, counted: bool = True
) -> None:
    ground = bench.ground
    with ground.copy_of(base) as url:
        ground.tenants.ask("calls")
        figures = ground.sync(url, "--resource", "groups")
        check_rows(bench, url, "group_members", edges)
        if not counted:  # to warm up, and to have the rows for the limit
            _export(bench, url, folder)
            return
        bench.rate(line, edges, figures, "edges")
        if line != MANY:
            return
        asked = ground.tenants.ask("calls")
        pages = max(1, asked["graph"].get("groups/delta", 0))
        bench.note(CALLS, asked["kinds"]["proxy"] / pages, "calls", more_is_better=False)
        ground.settle()
        figures = ground.sync(url, "--resource", "groups", "--full")
        bench.rate(QUIET, edges, figures, "edges")


def _export(bench: Bench, url: str, folder: Path) -> None:
    bench.ground.ask(url, "delete from events.change_events where resource <> 'group_members'")
    export(bench.ground, url, folder, resource="group_members")


def _limit(bench: Bench, base: str, edges: int, line: str, folder: Path) -> None:
    if not (folder / "group_members.copy").exists():
        raise Failed(f"{LIMIT}: there is no first load to take the rows from")
    with bench.ground.copy_of(base) as url:
        parts = lines_of(folder, ("group_members", "change_events"))
        bench.ground.ask(url, "delete from events.change_events")
        wanted = {"database": url, "page": 10_000, "parts": parts}
        figures = bench.ground.measured("benchmarks.children.copy_limit", wanted, url)
        bench.rate(line, edges, figures, "edges", who=LIMIT)


SCENARIO = Scenario(
    "groups",
    "groups and memberships, no latency",
    run,
    targets=(Target(MANY, at_least=80_000), Target(CALLS, at_most=1.2, any_size=False)),
)
