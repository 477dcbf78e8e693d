"""Groups with their members: many small groups, and one big group."""

import tempfile
from pathlib import Path
from typing import Any

from benchmarks.bench import Bench
from benchmarks.processes import MeasurementFailed
from benchmarks.results import Scenario, SpeedTarget
from benchmarks.scenarios.checks import CONTOSO, check_rows
from benchmarks.scenarios.copy_files import build_copy_parts, export

MANY = "memberships, first load, many groups"
ONE = "memberships, first load, one group of many"
QUIET = "memberships, full walk, nothing changed, many groups"
CALLS = "calls for each page of groups/delta"
LIMIT = "limit: COPY of edges and events"


def run(bench: Bench) -> None:
    groups = bench.pick(full=2000, quick=200, tiny=20)
    crowd = bench.pick(full=100_000, quick=10_000, tiny=1000)
    _measure_tenant(bench, MANY, users=max(1000, crowd // 20), groups=groups, members_per_group=100)
    bench.environment.tenant_process.send("remove")
    _measure_tenant(bench, ONE, users=crowd, groups=1, big_groups=1, big_group_members=crowd)
    bench.add_note(f"{groups:,} groups of 100 members on average; one group of {crowd:,}")
    bench.add_note("users are mirrored before the clock starts; group rows are written within it")


def _measure_tenant(bench: Bench, line: str, **tenant: Any) -> None:
    environment = bench.environment
    environment.tenant_process.connect(CONTOSO, sites=2, seed=12, **tenant)
    base = environment.create_enrolled()
    environment.sync(base, "--resource", "users")
    counts = environment.tenant_process.send("count", connection=CONTOSO)
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        _measure_first_load(bench, base, counts["group_members"], line, Path(folder), counted=False)
        for _ in bench.iterate_rounds():
            bench.run_in_turn(
                [
                    lambda: _measure_first_load(
                        bench, base, counts["group_members"], line, Path(folder)
                    ),
                    lambda: _measure_limit(
                        bench, base, counts["group_members"], line, Path(folder)
                    ),
                ]
            )
    environment.drop(base)


def _measure_first_load(
    bench: Bench, base: str, edges: int, line: str, folder: Path, *, counted: bool = True
) -> None:
    environment = bench.environment
    with environment.use_clone(base) as url:
        environment.tenant_process.send("calls")
        figures = environment.sync(url, "--resource", "groups")
        check_rows(bench, url, "group_members", edges)
        if not counted:  # warms up, and exports the rows for the limit
            _export(bench, url, folder)
            return
        bench.record_rate(line, edges, figures, "edges")
        if line != MANY:
            return
        asked = environment.tenant_process.send("calls")
        pages = max(1, asked["graph"].get("groups/delta", 0))
        bench.record(CALLS, asked["kinds"]["proxy"] / pages, "calls", more_is_better=False)
        environment.flush_servers()
        figures = environment.sync(url, "--resource", "groups", "--full")
        bench.record_rate(QUIET, edges, figures, "edges")


def _export(bench: Bench, url: str, folder: Path) -> None:
    bench.environment.query(
        url, "delete from events.change_events where resource <> 'group_members'"
    )
    export(bench.environment, url, folder, resource="group_members")


def _measure_limit(bench: Bench, base: str, edges: int, line: str, folder: Path) -> None:
    if not (folder / "group_members.copy").exists():
        raise MeasurementFailed(f"{LIMIT}: there is no first load to take the rows from")
    with bench.environment.use_clone(base) as url:
        parts = build_copy_parts(folder, ("group_members", "change_events"))
        bench.environment.query(url, "delete from events.change_events")
        wanted = {"database": url, "page": 10_000, "parts": parts}
        figures = bench.environment.run_measured("benchmarks.children.copy_limit", wanted, url)
        bench.record_rate(line, edges, figures, "edges", who=LIMIT)


SCENARIO = Scenario(
    "groups",
    "groups and memberships, no latency",
    run,
    targets=(SpeedTarget(MANY, at_least=80_000), SpeedTarget(CALLS, at_most=1.2, any_size=False)),
)
