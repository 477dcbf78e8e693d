"""The outcome as tables for people and as JSON for programs."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.plots import bars
from benchmarks.results import (
    OURS,
    Row,
    Sample,
    Scenario,
    Target,
    figure,
    ratio,
    rows_of,
    verdict,
)

HEAD = (
    "| | median | spread | we are | CPU s | Postgres CPU s | tenant CPU s | peak MB | target | |\n"
    "|---|---:|---:|---:|---:|---:|---:|---:|---|---|"
)


@dataclass(frozen=True)
class Outcome:
    """All that a run of the benchmark brought."""

    about: Mapping[str, Any]
    scenarios: Sequence[Scenario]
    samples: Sequence[Sample]
    notes: Mapping[str, Sequence[str]]

    @property
    def is_full(self) -> bool:
        return bool(self.about["size"] == "full")

    def rows(self, scenario: Scenario) -> list[Row]:
        return rows_of(one for one in self.samples if one.scenario == scenario.name)


def write(folder: Path, name: str, outcome: Outcome) -> Path:
    """Table, JSON and plots; the path of the table."""
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob(f"{name}[.-]*"):
        old.unlink()
    kept = {
        "about": dict(outcome.about),
        "notes": dict(outcome.notes),
        "samples": [asdict(one) for one in outcome.samples],
    }
    (folder / f"{name}.json").write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")
    parts = [_heading(outcome.about)]
    for scenario in outcome.scenarios:
        rows = outcome.rows(scenario)
        parts.append(_section(scenario, rows, outcome))
        picture = bars(scenario, rows)
        if picture is not None:
            file = folder / f"{name}-{scenario.name}.svg"
            file.write_text(picture, encoding="utf-8")
            parts.append(f"![{scenario.title}]({file.name})")
    table = folder / f"{name}.md"
    table.write_text("\n\n".join(parts) + "\n", encoding="utf-8")
    return table


def _heading(about: Mapping[str, Any]) -> str:
    versions = ", ".join(f"{name} {number}" for name, number in about["versions"].items())
    return (
        f"# Benchmark, {about['size']}, {about['day']}\n\n"
        f"Commit {about['commit']}. {about['processor']}, {about['cores']} cores, "
        f"{about['memory_gb']} GB, {about['kernel']}, data on {about['file_system']}, load "
        f"{about['load_before']} before the start. Python {about['python']}, PostgreSQL "
        f"{about['postgres']}; {versions}. {about['rounds']} rounds; everything on one machine.\n\n"
        "*we are*: how many times as fast as this one, in the same rounds; below 1 is slower. "
        "*spread*: from the least to the most. CPU and memory of the process that is measured; "
        "Postgres and the simulated tenant apart."
    )


def _section(scenario: Scenario, rows: Sequence[Row], outcome: Outcome) -> str:
    notes = outcome.notes.get(scenario.name, ())
    lines = [f"## {scenario.name}: {scenario.title}", "", *(f"- {note}" for note in notes), ""]
    if not rows:
        return "\n".join(lines).rstrip()
    lines.append(HEAD)
    seen = ""
    for row in rows:
        if row.line != seen:
            lines.append(f"| **{row.line}** {'| ' * 10}".rstrip())
            seen = row.line
        lines.append(_line(scenario, row, rows, full=outcome.is_full))
    return "\n".join(lines)


def _line(scenario: Scenario, row: Row, rows: Sequence[Row], *, full: bool) -> str:
    ours = next((one for one in rows if one.line == row.line and one.who == OURS), None)
    times = ratio(ours, row) if ours is not None and row.who != OURS else None
    targets = [one for one in scenario.targets if one.line == row.line and _is_for(one, row.who)]
    cells = [
        row.who,
        f"{figure(row.middle)} {row.unit}",
        f"{row.spread:.0%}" if len(row.samples) > 1 else "",
        f"{times:.2f} x" if times is not None else "",
        *(_taken(row, name) for name in ("cpu", "postgres_cpu", "tenant_cpu", "peak_mb")),
        "; ".join(one.text() for one in targets),
        "; ".join(verdict(one, rows, full=full) for one in targets),
    ]
    return f"| {' | '.join(cells)} |"


def _is_for(target: Target, who: str) -> bool:
    """A ratio stands beside the one that it is taken against."""
    return target.against == who if target.against else who == OURS


def _taken(row: Row, name: str) -> str:
    value = row.figure(name)
    return "" if value is None else f"{value:.2f}" if name != "peak_mb" else f"{value:.0f}"


def missed(outcome: Outcome) -> list[str]:
    """The targets that were not reached."""
    return [
        f"{target.line}: {target.text()}"
        for scenario in outcome.scenarios
        for target in scenario.targets
        if verdict(target, outcome.rows(scenario), full=outcome.is_full) == "NOT reached"
    ]
