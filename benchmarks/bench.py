"""A run of the benchmark: its size, its rounds, and what they brought."""

import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from benchmarks.ground import Ground
from benchmarks.processes import Failed
from benchmarks.results import OURS, Sample, Scenario

Contestant = Callable[[], None]


class Size(StrEnum):
    """How much is measured."""

    FULL = "full"
    QUICK = "quick"
    """A look, within two minutes; figures are not for comparison."""
    TINY = "tiny"
    """To see that everything runs to its end."""


@dataclass
class Bench:
    """What scenarios are given."""

    ground: Ground
    size: Size
    times: int
    peers: bool = True
    """Whether other tools run, too."""
    installs: bool = True
    """Whether those that are missing are installed first."""
    samples: list[Sample] = field(default_factory=list)
    notes: dict[str, list[str]] = field(default_factory=dict)
    """What the table has to say of a scenario besides its figures."""
    scenario: str = ""
    round: int = 0

    def pick(self, *, full: int, quick: int, tiny: int) -> int:
        """How many, at this size."""
        return {Size.FULL: full, Size.QUICK: quick, Size.TINY: tiny}[self.size]

    def rounds(self) -> Iterator[int]:
        """Everybody runs once in each round."""
        for number in range(self.times):
            self.round = number
            yield number

    def in_turn(self, contestants: Sequence[Contestant]) -> None:
        """Let everybody run, another one first in each round; who fails is told of."""
        first = self.round % len(contestants)
        for contestant in (*contestants[first:], *contestants[:first]):
            try:
                contestant()
            except Failed as fault:
                self.say(str(fault))

    def note(
        self,
        line: str,
        value: float,
        unit: str,
        figures: Mapping[str, Any] | None = None,
        *,
        who: str = OURS,
        more_is_better: bool = True,
    ) -> None:
        """Keep a figure."""
        kept = {
            name: value
            for name, value in (figures or {}).items()
            if isinstance(value, int | float) and not isinstance(value, bool)
        }
        self.samples.append(
            Sample(self.scenario, line, who, self.round, value, unit, more_is_better, figures=kept)
        )
        progress(f"  {line} | {who}: {value:,.4g} {unit}")

    def rate(
        self, line: str, count: int, figures: Mapping[str, Any], what: str, *, who: str = OURS
    ) -> None:
        """Keep how many of something a second were done."""
        self.note(line, count / figures["seconds"], f"{what}/s", figures, who=who)

    def say(self, text: str) -> None:
        """Keep a remark, once."""
        told = self.notes.setdefault(self.scenario, [])
        if text not in told:
            told.append(text)
            progress(f"  {text}")

    def play(self, scenario: Scenario) -> None:
        """One scenario from begin to end; what fails in it is a remark, and the rest goes on."""
        self.scenario, self.round = scenario.name, 0
        missing = scenario.missing()
        if missing:
            self.say(f"not built: {missing}")
            return
        start = time.monotonic()
        progress(f"{scenario.name}: {scenario.title}")
        try:
            self.ground.tenants.ask("remove")
            scenario.run(self)
        except Failed as fault:
            self.say(f"FAILED: {fault}")
        except Exception as bug:  # noqa: BLE001 - what the others brought must not be lost
            self.say(f"FAILED: {type(bug).__name__}: {bug}")
        progress(f"  ({time.monotonic() - start:.1f} s)")


def progress(line: str) -> None:
    """What happens, for whoever waits."""
    print(line, file=sys.stderr, flush=True)
