"""The parts of the soak that can be wrong without a single process running."""

import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from random import Random

import pytest

from sandbox.tenant import Nango
from tests.soak.__main__ import read_options
from tests.soak.fleet import Fleet
from tests.soak.invariants import IdleRun, find_memory_excess
from tests.soak.logs import LogReader, parse_line
from tests.soak.processes import is_alive, list_children, read_megabytes, read_processor_seconds
from tests.soak.quiet_period import QuietPeriod
from tests.soak.report import SoakReport, SoakTotals, render_clock


@pytest.mark.parametrize(
    ("text", "surprising"),
    [
        ('{"level": "info", "event": "slice done"}', False),
        ('{"level": "warning", "event": "server unavailable"}', False),
        ('{"level": "error", "event": "something we never thought of"}', True),
        ('{"level": "warning", "event": "x", "exception": "Traceback\\nKeyError: 3"}', True),
        ('{"level": "error", "event": "consumer: Cannot connect to redis://x: Error 111"}', False),
        ('{"level": "error", "exception": "billiard.exceptions.WorkerLostError: x"}', False),
        ("Process 'ForkPoolWorker-1' pid:7 exited with 'signal 9 (SIGKILL)'", False),
        ("Please specify a different user using the --uid option.", False),
        ("Traceback (most recent call last):", True),
        ("3", False),
    ],
)
def test_only_what_no_blow_explains_is_a_surprise(text: str, *, surprising: bool) -> None:
    assert parse_line(text).is_surprise is surprising


def test_messages_that_could_not_be_put_back_are_told_apart(tmp_path: Path) -> None:
    path = tmp_path / "worker.log"
    path.write_text("UNABLE TO RESTORE 1 MESSAGES: (ConnectionError('Error 111'),)\n")
    logs = LogReader({"worker-1": path})
    logs.read_new()
    assert (logs.surprises, logs.messages) == (Counter(), Counter())
    ((told, times),) = logs.harmless.items()
    assert told.startswith("worker-1: a worker stopped while Redis was away")
    assert times == 1
    report = _report(QuietPeriod(10.0, 5.0), problems=[], harmless=logs.harmless)
    assert report.passed
    assert f"| {told} | 1 |" in report.render().splitlines()


def _idle(due_in: float | None, *, status: str = "active", slices: int = 2) -> IdleRun:
    return IdleRun(7, 3, status, slices, due_in)


@pytest.mark.parametrize(
    ("run", "stranded"),
    [
        (_idle(-3.0), False),
        (_idle(40.0), False),
        (_idle(120.0), False),
        (_idle(60.0, status="broken"), False),
        (_idle(600.0), True),
        (_idle(None), True),
        (_idle(-3.0, status="retired"), True),
    ],
)
def test_a_run_between_two_slices_is_stranded_only_if_nobody_will_take_it_up(
    run: IdleRun, *, stranded: bool
) -> None:
    assert run.is_stranded is stranded


def test_a_run_that_was_claimed_has_to_go_on_when_the_claim_is_over() -> None:
    claimed = _idle(100.0)
    assert not claimed.is_overdue(_idle(1.0), 99.0)
    assert not claimed.is_overdue(_idle(-20.0), 120.0)
    assert claimed.is_overdue(_idle(115.0), 131.0), "claimed anew, and still no slice"
    assert not claimed.is_overdue(_idle(115.0, slices=3), 131.0)
    assert _idle(-3.0).is_overdue(_idle(-34.0), 31.0)


def test_lines_that_differ_in_numbers_only_are_one_kind() -> None:
    first = parse_line('{"level": "error", "event": "run 12 took 3.5 s"}')
    second = parse_line('{"level": "error", "event": "run 345 took 12 s"}')
    assert first.kind == second.kind == "error: run # took # s"


def test_a_kind_ends_with_the_last_line_of_its_traceback() -> None:
    line = parse_line(
        '{"level": "error", "event": "e", "exception": "Traceback\\n  a\\nKeyError: 1"}'
    )
    assert line.kind == "error: e / KeyError: #"


def test_a_dead_pool_process_is_known_by_its_number() -> None:
    line = parse_line("Process 'ForkPoolWorker-2' pid:19588 exited with 'signal 11 (SIGSEGV)'")
    assert line.dead_pool_process == (19588, "signal 11 (SIGSEGV)")
    assert parse_line('{"level": "info", "event": "slice done"}').dead_pool_process is None


def test_logs_are_read_once_even_when_they_are_moved_away(tmp_path: Path) -> None:
    path = tmp_path / "worker.log"
    logs = LogReader({"worker": path})
    logs.read_new()
    error = '{"level": "error", "event": "%s"}'
    path.write_text(f"{error % 'first'}\n", encoding="utf-8")
    logs.read_new()
    with path.open("a", encoding="utf-8") as file:
        file.write(f"{error % 'second'}\n{error % 'half a line'}")
    logs.read_new()
    assert logs.surprises == {"worker: error: first": 1, "worker: error: second": 1}
    with path.open("a", encoding="utf-8") as file:
        file.write("\n")
    path.rename(tmp_path / "worker.log.1")
    path.write_text(f"{error % 'fourth'}\n", encoding="utf-8")
    logs.read_new()
    logs.read_new()
    assert logs.surprises["worker: error: half a line"] == 1
    assert logs.surprises["worker: error: fourth"] == 1
    assert logs.surprises.total() == 4


def _report(
    *calms: QuietPeriod, problems: list[str], harmless: Counter[str] | None = None
) -> SoakReport:
    none: Counter[str] = Counter()
    return SoakReport(
        seed=7,
        fleet="2 tenants",
        numbers=SoakTotals(seconds=3725, events=12),
        quiet_periods=list(calms),
        faults_injected=Counter({"kill beat": 1, "steal a lease": 5}),
        faults_skipped=none,
        faults_served=Counter({"503": 2}),
        calls=none,
        peaks={"beat main": 51.2},
        problems=problems,
        messages=none,
        harmless=harmless or none,
    )


def test_a_soak_passes_only_without_problems() -> None:
    quiet, loud = QuietPeriod(10.0, 5.0), QuietPeriod(10.0, 5.0, problems=["run 3 is stuck"])
    assert _report(quiet, problems=[]).passed
    assert not _report(quiet, problems=["worker-1 died"]).passed
    assert not _report(quiet, loud, problems=[]).passed


def test_the_report_tells_blows_by_number_and_every_problem() -> None:
    text = _report(
        QuietPeriod(60.0, None, problems=["customer-03 is behind"]), problems=["it died"]
    )
    lines = text.render().splitlines()
    assert lines[0] == "# Soak: FAILED"
    assert lines.index("| steal a lease | 5 |") < lines.index("| kill beat | 1 |")
    assert "- it died" in lines
    assert "- (calm at 0:01:00) customer-03 is behind" in lines
    assert "- ran for 1:02:05 with seed 7" in lines
    assert "| beat main | 51 |" in lines


def test_the_same_seed_gives_the_same_fleet() -> None:
    fleets = [Fleet(Nango(), Random(5), tenants=4, big=50) for _ in range(2)]
    first, second = ([c.tenant.truth() for c in fleet.customers] for fleet in fleets)
    assert first == second


def test_a_fleet_that_holds_still_is_connected_and_unchanging() -> None:
    fleet = Fleet(Nango(), Random(5), tenants=10, big=50)
    lost, refused = fleet.customers[1], fleet.customers[2]
    fleet.get_connection(refused).refused_resources.add("users")
    fleet.disconnect(lost)
    assert lost not in fleet.connected_customers
    restless = [c for c in fleet.customers if c.tenant.options.mutations_between_items]
    assert restless
    fleet.stop_changes()
    assert fleet.connected_customers == fleet.customers
    assert not fleet.get_connection(refused).refused_resources
    assert not any(c.tenant.options.mutations_between_items for c in fleet.customers)
    fleet.start_changes()
    assert restless == [c for c in fleet.customers if c.tenant.options.mutations_between_items]


def test_a_mass_deletion_takes_enough_to_be_held_and_keeps_the_size() -> None:
    fleet = Fleet(Nango(), Random(5), tenants=1, big=200)
    customer = fleet.customers[0]
    assert 50 <= fleet.delete_many(customer, Random(1)) <= 80
    assert customer.tenant.users.count_live() == 200


def test_processes_are_measured_and_their_children_found() -> None:
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    try:
        assert child.pid in list_children(os.getpid())
        assert is_alive(child.pid)
        assert read_megabytes(os.getpid()) > 5
        assert read_processor_seconds(os.getpid()) > 0
    finally:
        child.communicate(b"\n")
    assert not is_alive(child.pid)
    assert read_megabytes(child.pid) == 0


def test_memory_above_the_bound_is_told() -> None:
    assert list(find_memory_excess({"worker-1 pool": 120.0, "beat main": 900.0})) == [
        "beat main had 900 MB, more than 350"
    ]


def test_options_are_read_and_the_report_is_kept_apart() -> None:
    options, report = read_options(["--hours", "0.5", "--calm-every", "60", "--report", "r.md"])
    assert (options.hours, options.calm_every, options.seed) == (0.5, 60.0, 1)
    assert report == Path("r.md")


def test_clock_tells_hours_minutes_and_seconds() -> None:
    assert render_clock(3725.9) == "1:02:05"
