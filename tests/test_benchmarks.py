"""The benchmark runs to its end, says what it promises, and does not judge what it has not seen."""

import xml.etree.ElementTree as ET
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks import tenant_process
from benchmarks.bench import Bench, Size
from benchmarks.environment import Environment
from benchmarks.processes import MeasurementFailed
from benchmarks.report import BenchmarkRun, find_missed_targets, write
from benchmarks.results import (
    OURS,
    ResultRow,
    Sample,
    Scenario,
    SpeedTarget,
    compute_ratio,
    group_samples,
    judge_target,
)
from benchmarks.scenarios import SCENARIOS, fleet, users
from sandbox.servers import Home, Servers

ABOUT = {
    "size": "full",
    "day": "2026-01-05",
    "commit": "0123",
    "processor": "one",
    "cores": 2,
    "memory_gb": 4,
    "kernel": "Linux",
    "file_system": "ext4",
    "load_before": 0.1,
    "python": "3.11",
    "postgres": "18",
    "rounds": 2,
    "versions": {"httpx": "1"},
}
LINE = "something done"


def sample(value: float, *, who: str = OURS, round: int = 0, more: bool = True) -> Sample:  # noqa: A002
    return Sample("some", LINE, who, round, value, "rows/s", more)


def rows(*samples: Sample) -> dict[str, ResultRow]:
    return {row.who: row for row in group_samples(samples)}


@pytest.fixture(scope="module")
def bench(servers: Servers, home: Path) -> Iterator[Bench]:
    """A tiny run on the servers of the tests; the simulated tenant is a process of its own."""
    pids = {name: servers.supervisor.get_pid(name) or 0 for name in ("postgres", "valkey")}
    with tenant_process.run_tenant_process() as tenants:
        pids["tenant"] = tenants.pid
        environment = Environment(
            servers.database_url, servers.redis_url, Home(home / "18"), pids, tenants
        )
        yield Bench(environment, Size.TINY, round_count=1, runs_peers=False, installs_peers=False)
        environment.drop_all()


@pytest.mark.parametrize(
    "name",
    [
        *("users", "groups", "deletions", "nesting", "dispatch", "web"),
        pytest.param("export", marks=pytest.mark.long),
    ],
)
def test_a_cheap_scenario_runs_to_its_end_and_measures_what_is_promised(
    bench: Bench, name: str
) -> None:
    scenario = SCENARIOS[name]
    bench.run_scenario(scenario)
    found = [one for one in bench.samples if one.scenario == name]
    assert [note for note in bench.notes[name] if "FAILED" in note or "ended with" in note] == []
    assert {target.line for target in scenario.targets} <= {one.line for one in found}
    assert all(one.value > 0 for one in found)


@pytest.mark.long
@pytest.mark.timeout(600)
def test_the_fleet_comes_to_its_end_and_no_call_is_refused(bench: Bench) -> None:
    scenario = SCENARIOS["fleet"]
    bench.run_scenario(scenario)
    found = {one.line: one.value for one in bench.samples if one.scenario == "fleet"}
    assert [note for note in bench.notes["fleet"] if "FAILED" in note] == []
    assert {target.line for target in scenario.targets} <= found.keys()
    assert (found[fleet.CALLS], found[fleet.REFUSED]) == (1, 0)


def test_what_the_tenant_keeps_is_counted_like_what_it_builds(bench: Bench) -> None:
    tenants = bench.environment.tenant_process
    tenants.send("remove")
    tenants.connect("contoso", users=2500, groups=1, sites=1, seed=4)
    url = bench.environment.create_enrolled()
    told = []
    for _ in range(2):
        with bench.environment.use_clone(url) as copy:
            tenants.send("calls")
            bench.environment.sync(copy, "--resource", "users")
            told.append(tenants.send("calls"))
    bench.environment.drop(url)
    assert told[0] == told[1]
    assert told[0]["graph"]["users"] == 3


def test_a_scenario_that_fails_becomes_a_note(bench: Bench) -> None:
    def run(_: Bench) -> None:
        raise MeasurementFailed("no such luck")

    bench.run_scenario(Scenario("unlucky", "one that fails", run))
    assert bench.notes["unlucky"] == ["FAILED: no such luck"]


def test_every_scenario_has_a_name_of_its_own_and_one_line_a_target() -> None:
    for name, scenario in SCENARIOS.items():
        assert name == scenario.name
        assert name.isidentifier()
        for target in scenario.targets:
            assert (target.at_least is None) or (target.at_most is None) or not target.against
            assert target.render()


def test_ratios_are_taken_within_a_round() -> None:
    found = rows(
        sample(100, round=0),
        sample(10, who="peer", round=0),
        sample(40, round=1),
        sample(20, who="peer", round=1),
        sample(1, who="peer", round=2),
    )
    assert compute_ratio(found[OURS], found["peer"]) == (10 + 2) / 2
    slow = rows(sample(2, more=False), sample(6, who="peer", more=False))
    assert compute_ratio(slow[OURS], slow["peer"]) == 3


@pytest.mark.parametrize(
    ("target", "full", "told"),
    [
        (SpeedTarget(LINE, at_least=90), True, "reached"),
        (SpeedTarget(LINE, at_least=110), True, "NOT reached"),
        (SpeedTarget(LINE, at_most=90), True, "NOT reached"),
        (SpeedTarget(LINE, at_least=110), False, "not judged at this size"),
        (SpeedTarget(LINE, at_least=110, any_size=True), False, "NOT reached"),
        (SpeedTarget(LINE, at_least=4, against="peer"), True, "reached"),
        (SpeedTarget(LINE, at_least=6, against="peer"), True, "NOT reached"),
        (SpeedTarget(LINE, at_least=4, against="nobody"), True, "not measured"),
        (SpeedTarget("another line", at_least=1), True, "not measured"),
    ],
)
def test_a_target_is_judged_by_what_was_measured(
    target: SpeedTarget, full: bool, told: str
) -> None:
    found = rows(sample(100), sample(20, who="peer"))
    assert judge_target(target, found.values(), full=full) == told


def test_the_table_names_medians_ratios_and_missed_targets(tmp_path: Path) -> None:
    scenario = Scenario(
        "some",
        "some <work>",
        users.run,
        (SpeedTarget(LINE, at_least=50_000), SpeedTarget(LINE, at_least=2, against="peer")),
    )
    samples = [
        sample(40_000),
        sample(44_000, round=1),
        sample(10_000, who="peer"),
        sample(11_000, who="peer", round=1),
    ]
    outcome = BenchmarkRun(ABOUT, [scenario], samples, {"some": ["a remark"]})
    table = write(tmp_path, "latest", outcome).read_text()
    assert "| tenant-mirror | 42,000 rows/s | 10% |" in table
    assert "| peer | 10,500 rows/s | 10% | 4.00 x |" in table
    assert "- a remark" in table
    assert find_missed_targets(outcome) == [f"{LINE}: ≥ 50,000"]
    ET.fromstring((tmp_path / "latest-some.svg").read_text())  # noqa: S314 - our own
