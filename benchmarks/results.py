"""Samples, scenarios and targets of the benchmark, and their evaluation."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from statistics import median
from typing import Any

OURS = "tenant-mirror"


@dataclass(frozen=True)
class Sample:
    """One figure of one run."""

    scenario: str
    line: str
    """The name of the measured work."""
    who: str
    round: int
    value: float
    unit: str
    more_is_better: bool = True
    figures: dict[str, Any] = field(default_factory=dict)
    """Processor seconds and memory, if measured."""


@dataclass(frozen=True)
class SpeedTarget:
    """A target: a figure of ours, or our ratio to a peer of the same run."""

    line: str
    at_least: float | None = None
    at_most: float | None = None
    against: str | None = None
    any_size: bool = False
    """Whether it applies to all sizes; else to the full size only."""

    def render(self) -> str:
        sign, bound = ("≥", self.at_least) if self.at_least is not None else ("≤", self.at_most)
        times = f" x {self.against}" if self.against else ""
        return f"{sign} {format_number(bound or 0.0)}{times}"

    def is_met(self, value: float) -> bool:
        enough = self.at_least is None or value >= self.at_least
        return enough and (self.at_most is None or value <= self.at_most)


@dataclass(frozen=True)
class Scenario:
    """One part of the benchmark."""

    name: str
    title: str
    run: Callable[[Any], None]
    targets: tuple[SpeedTarget, ...] = ()
    quick: bool = True
    """Whether it is part of the quick run."""


@dataclass(frozen=True)
class ResultRow:
    """All runs of one contestant on a line."""

    line: str
    who: str
    samples: tuple[Sample, ...]

    @property
    def unit(self) -> str:
        return self.samples[0].unit

    @property
    def median(self) -> float:
        return median(one.value for one in self.samples)

    @property
    def spread(self) -> float:
        """The range as a share of the median."""
        values = [one.value for one in self.samples]
        return (max(values) - min(values)) / self.median if self.median else 0.0

    def median_of(self, name: str) -> float | None:
        """Return the median of another figure of these runs."""
        found = [one.figures[name] for one in self.samples if one.figures.get(name) is not None]
        return median(found) if found else None


def group_samples(samples: Iterable[Sample]) -> list[ResultRow]:
    """Group samples by line and contestant, in order of appearance; ours first."""
    lines: dict[str, dict[str, list[Sample]]] = {}
    for one in samples:
        lines.setdefault(one.line, {}).setdefault(one.who, []).append(one)
    return [
        ResultRow(line, who, tuple(found))
        for line, everybody in lines.items()
        for who, found in sorted(everybody.items(), key=lambda item: item[0] != OURS)
    ]


def compute_ratio(ours: ResultRow, other: ResultRow) -> float | None:
    """Return how many times as fast we are: the median over the rounds of both."""
    theirs = {one.round: one.value for one in other.samples}
    pairs = [(one.value, theirs[one.round]) for one in ours.samples if one.round in theirs]
    if not ours.samples[0].more_is_better:
        pairs = [(b, a) for a, b in pairs]
    times = [a / b for a, b in pairs if b]
    return median(times) if times else None


def judge_target(target: SpeedTarget, rows: Iterable[ResultRow], *, full: bool) -> str:
    """Return in words whether a target was reached."""
    found = {row.who: row for row in rows if row.line == target.line}
    if OURS not in found or (target.against and target.against not in found):
        return "not measured"
    if not full and not target.any_size:
        return "not judged at this size"
    value: float | None = found[OURS].median
    if target.against:
        value = compute_ratio(found[OURS], found[target.against])
    return "reached" if value is not None and target.is_met(value) else "NOT reached"


def format_number(value: float) -> str:
    """Return a number for people."""
    if value == int(value) and abs(value) < 1e12:
        return f"{int(value):,}"
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
