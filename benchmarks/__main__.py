"""`python -m benchmarks`: run the scenarios, write the table. ``make bench`` calls it."""

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.bench import Bench, Size, print_progress
from benchmarks.environment import get_default_home, run_environment
from benchmarks.machine import describe_machine
from benchmarks.processes import ROOT
from benchmarks.report import BenchmarkRun, find_missed_targets, write
from benchmarks.results import Scenario
from benchmarks.scenarios import SCENARIOS

RESULTS = ROOT / "benchmarks" / "results"
ROUNDS = {Size.FULL: 3, Size.QUICK: 1, Size.TINY: 1}


def _build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    sizes = parser.add_mutually_exclusive_group()
    sizes.add_argument("--quick", action="store_true", help="a look, in under two minutes")
    sizes.add_argument("--tiny", action="store_true", help="only see that it runs")
    parser.add_argument("--only", action="append", choices=list(SCENARIOS), metavar="NAME",
                        help=f"only this one; may be repeated: {', '.join(SCENARIOS)}")  # fmt: skip
    parser.add_argument("--rounds", type=int, help="how often everybody runs")
    parser.add_argument(
        "--install", action="store_true", help="install other tools, as full runs do"
    )
    parser.add_argument("--no-peers", action="store_true", help="leave other tools out")
    parser.add_argument(
        "--home", type=Path, default=get_default_home(), help="where servers keep data"
    )
    parser.add_argument("--results", type=Path, default=RESULTS, help="where the table is written")
    parser.add_argument(
        "--strict", action="store_true", help="exit with 1 where a target is missed"
    )
    return parser


def _choose_scenarios(only: Sequence[str] | None, size: Size) -> list[Scenario]:
    if only:
        return [SCENARIOS[name] for name in SCENARIOS if name in only]
    return [one for one in SCENARIOS.values() if one.quick or size is not Size.QUICK]


def _build_file_name(size: Size, only: Sequence[Scenario]) -> str:
    """Return the name of the files; a partial run never replaces a complete one."""
    if only:
        return "-".join(("part", size.value, *(one.name for one in only)))
    return "latest" if size is Size.FULL else size.value


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the requested scenarios; return the exit code."""
    asked = _build_parser().parse_args(arguments)
    size = Size.QUICK if asked.quick else Size.TINY if asked.tiny else Size.FULL
    scenarios, start = _choose_scenarios(asked.only, size), time.monotonic()
    name = _build_file_name(size, scenarios if asked.only else ())
    with run_environment(asked.home) as running:
        about = describe_machine(running)
        bench = Bench(
            running,
            size,
            asked.rounds or ROUNDS[size],
            runs_peers=not asked.no_peers,
            installs_peers=asked.install or size is Size.FULL,
        )
        about |= {
            "size": size.value,
            "rounds": bench.round_count,
            "day": time.strftime("%Y-%m-%d %H:%M"),
        }
        outcome = BenchmarkRun(about, scenarios, bench.samples, bench.notes)
        for scenario in scenarios:
            bench.run_scenario(scenario)
            table = write(asked.results, name, outcome)
    print_progress(f"{table} ({time.monotonic() - start:.0f} s)")
    found = find_missed_targets(outcome)
    for line in found:
        print_progress(f"NOT reached: {line}")
    failed = [text for texts in bench.notes.values() for text in texts if text.startswith("FAILED")]
    return 1 if failed or (asked.strict and found) else 0


if __name__ == "__main__":
    sys.exit(main())
