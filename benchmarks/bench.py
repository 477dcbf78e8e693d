"""A run of the benchmark: its size, its rounds and its samples."""

import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from benchmarks.environment import Environment
from benchmarks.processes import MeasurementFailed
from benchmarks.results import OURS, Sample, Scenario

Contestant = Callable[[], None]


class Size(StrEnum):
    """The size of a benchmark run."""

    FULL = "full"
    QUICK = "quick"
    """Within two minutes; figures are not comparable."""
    TINY = "tiny"
    """Only to check that everything runs."""


@dataclass
class Bench:
    """The context of the scenarios: options, environment, samples and notes."""

    environment: Environment
    size: Size
    round_count: int
    runs_peers: bool = True
    """Whether other tools are measured, too."""
    installs_peers: bool = True
    """Whether missing tools are installed first."""
    samples: list[Sample] = field(default_factory=list)
    notes: dict[str, list[str]] = field(default_factory=dict)
    """Notes on each scenario for the table."""
    scenario: str = ""
    round: int = 0

    def pick(self, *, full: int, quick: int, tiny: int) -> int:
        """Return the number for this size."""
        return {Size.FULL: full, Size.QUICK: quick, Size.TINY: tiny}[self.size]

    def iterate_rounds(self) -> Iterator[int]:
        """Yield the rounds; each contestant runs once a round."""
        for number in range(self.round_count):
            self.round = number
            yield number

    def run_in_turn(self, contestants: Sequence[Contestant]) -> None:
        """Run all contestants, another one first in each round; failures become notes."""
        first = self.round % len(contestants)
        for contestant in (*contestants[first:], *contestants[:first]):
            try:
                contestant()
            except MeasurementFailed as error:
                self.add_note(str(error))

    def record(
        self,
        line: str,
        value: float,
        unit: str,
        figures: Mapping[str, Any] | None = None,
        *,
        who: str = OURS,
        more_is_better: bool = True,
    ) -> None:
        """Record a figure."""
        kept = {
            name: value
            for name, value in (figures or {}).items()
            if isinstance(value, int | float) and not isinstance(value, bool)
        }
        self.samples.append(
            Sample(self.scenario, line, who, self.round, value, unit, more_is_better, figures=kept)
        )
        print_progress(f"  {line} | {who}: {value:,.4g} {unit}")

    def record_rate(
        self, line: str, count: int, figures: Mapping[str, Any], what: str, *, who: str = OURS
    ) -> None:
        """Record a rate per second."""
        self.record(line, count / figures["seconds"], f"{what}/s", figures, who=who)

    def add_note(self, text: str) -> None:
        """Add a note, once."""
        notes = self.notes.setdefault(self.scenario, [])
        if text not in notes:
            notes.append(text)
            print_progress(f"  {text}")

    def run_scenario(self, scenario: Scenario) -> None:
        """Run one scenario; its failure becomes a note, and the others still run."""
        self.scenario, self.round = scenario.name, 0
        start = time.monotonic()
        print_progress(f"{scenario.name}: {scenario.title}")
        try:
            self.environment.tenant_process.send("remove")
            scenario.run(self)
        except MeasurementFailed as error:
            self.add_note(f"FAILED: {error}")
        except Exception as bug:  # noqa: BLE001 - what the others brought must not be lost
            self.add_note(f"FAILED: {type(bug).__name__}: {bug}")
        print_progress(f"  ({time.monotonic() - start:.1f} s)")


def print_progress(line: str) -> None:
    """Print progress for people."""
    print(line, file=sys.stderr, flush=True)
