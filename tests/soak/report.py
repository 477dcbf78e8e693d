"""Renders the report of the soak test in Markdown."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from tests.soak.quiet_period import QuietPeriod


@dataclass
class SoakTotals:
    """What a soak counted."""

    seconds: float = 0.0
    mutations: int = 0
    calls: int = 0
    events: int = 0
    rows: int = 0
    pages: int = 0
    runs: Mapping[str, int] = field(default_factory=dict)
    processors: float = 0.0
    """Average number of processors that the service and its simulation kept busy."""


@dataclass
class SoakReport:
    """Everything that a soak has to say."""

    seed: int
    fleet: str
    numbers: SoakTotals
    quiet_periods: list[QuietPeriod]
    faults_injected: Counter[str]
    faults_skipped: Counter[str]
    faults_served: Counter[str]
    calls: Counter[str]
    peaks: Mapping[str, float]
    problems: list[str]
    messages: Counter[str]
    harmless: Counter[str] = field(default_factory=Counter)
    notes: list[str] = field(default_factory=list)

    @property
    def passed(self) -> bool:
        return not self.problems and not any(calm.problems for calm in self.quiet_periods)

    def render(self) -> str:
        return "\n".join(self._lines()) + "\n"

    def _lines(self) -> Iterator[str]:
        numbers = self.numbers
        yield f"# Soak: {'passed' if self.passed else 'FAILED'}"
        yield ""
        yield f"- ran for {render_clock(numbers.seconds)} with seed {self.seed}"
        yield f"- fleet: {self.fleet}"
        yield (
            f"- {sum(self.faults_injected.values())} blows, {numbers.mutations} changes in the "
            f"tenants"
        )
        yield (
            f"- {numbers.calls} calls to Nango, {sum(self.faults_served.values())} of them "
            f"answered with "
            f"a fault; {numbers.pages} pages"
        )
        yield f"- {numbers.events} change events; {numbers.rows} live rows at the end"
        yield f"- runs: {render_counts(numbers.runs)}"
        yield f"- processors kept busy: {numbers.processors:.2f} on average"
        for note in self.notes:
            yield f"- {note}"
        yield from self._calms()
        yield from render_table("Blows", ("blow", "struck"), self.faults_injected)
        yield from render_table("Blows that hit nothing", ("blow", "missed"), self.faults_skipped)
        yield from render_table("Faults served", ("fault", "times"), self.faults_served)
        yield from render_table("Calls to Graph", ("path", "times"), self.calls)
        sizes = {kind: f"{size:.0f}" for kind, size in sorted(self.peaks.items())}
        yield from render_table("Most memory", ("process", "MB"), sizes)
        yield from self._findings()
        yield from render_table("Known to be harmless", ("what is said", "times"), self.harmless)
        yield from render_table(
            "Warnings and errors in the logs", ("message", "times"), self.messages
        )

    def _calms(self) -> Iterator[str]:
        replays = max((calm.replays for calm in self.quiet_periods), default=0)
        yield from ("", "## Calms", "")
        yield (
            "| at | exact after | slowest | delivered after | resyncs asked for "
            "| deletions approved | problems |"
        )
        yield "|---|---|---|---|---|---|---|"
        for calm in self.quiet_periods:
            after, delivered = (
                render_seconds(calm.exact_after),
                render_seconds(calm.delivered_after),
            )
            yield (
                f"| {render_clock(calm.started)} | {after} | {calm.slowest} | {delivered} | "
                f"{calm.resyncs_requested} "
                f"| {calm.deletions_approved} | {len(calm.problems)} |"
            )
        yield ""
        for calm in self.quiet_periods:
            at = render_clock(calm.started)
            yield from (f"- a minute into the calm at {at}: {line}" for line in calm.slow)
        yield ""
        yield (
            "In a calm an operator approves held deletions, and asks for a resync of connections "
            "that wait on purpose after a fault; without that, the pauses of broken connections "
            "and refused resources would have to be sat out. Delivered means: a consumer of the "
            "stream and a webhook's receiver hold what the mirror holds. Redis had lost entries of "
            f"{replays} connections; an operator had them delivered once more."
        )

    def _findings(self) -> Iterator[str]:
        yield from ("", "## Problems", "")
        found = list(self.problems)
        for calm in self.quiet_periods:
            found += [
                f"(calm at {render_clock(calm.started)}) {problem}" for problem in calm.problems
            ]
        yield from (f"- {one}" for one in found)
        if not found:
            yield "None: every invariant held."


def render_table(title: str, names: tuple[str, str], counts: Mapping[str, object]) -> Iterator[str]:
    """A section with a table of two columns; nothing where there is nothing to tell."""
    if not counts:
        return
    yield from ("", f"## {title}", "", f"| {names[0]} | {names[1]} |", "|---|---|")
    for name, value in _sorted(counts):
        yield f"| {name.replace('|', '/')} | {value} |"


def _sorted(counts: Mapping[str, object]) -> Iterable[tuple[str, object]]:
    return counts.most_common() if isinstance(counts, Counter) else counts.items()


def render_seconds(seconds: float | None) -> str:
    return "never" if seconds is None else f"{seconds:.0f} s"


def render_counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{number} {name}" for name, number in counts.items()) or "none"


def render_clock(seconds: float) -> str:
    """Hours, minutes and seconds."""
    whole = int(seconds)
    return f"{whole // 3600}:{whole % 3600 // 60:02}:{whole % 60:02}"
