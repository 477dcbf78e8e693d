"""Writes the results as tables for people and JSON for programs."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.plots import render_bars
from benchmarks.results import (
    OURS,
    ResultRow,
    Sample,
    Scenario,
    SpeedTarget,
    compute_ratio,
    format_number,
    group_samples,
    judge_target,
)

TABLE_HEAD = (
    "| | median | spread | we are | CPU s | Postgres CPU s | tenant CPU s | peak MB | target | |\n"
    "|---|---:|---:|---:|---:|---:|---:|---:|---|---|"
)


@dataclass(frozen=True)
class BenchmarkRun:
    """The results of a run of the benchmark."""

    machine: Mapping[str, Any]
    scenarios: Sequence[Scenario]
    samples: Sequence[Sample]
    notes: Mapping[str, Sequence[str]]

    @property
    def is_full(self) -> bool:
        return bool(self.machine["size"] == "full")

    def rows(self, scenario: Scenario) -> list[ResultRow]:
        return group_samples(one for one in self.samples if one.scenario == scenario.name)


def write(folder: Path, name: str, outcome: BenchmarkRun) -> Path:
    """Write the table, the JSON and the plots; return the path of the table."""
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob(f"{name}[.-]*"):
        old.unlink()
    kept = {
        "about": dict(outcome.machine),
        "notes": dict(outcome.notes),
        "samples": [asdict(one) for one in outcome.samples],
    }
    (folder / f"{name}.json").write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")
    parts = [_render_heading(outcome.machine)]
    for scenario in outcome.scenarios:
        rows = outcome.rows(scenario)
        parts.append(_render_section(scenario, rows, outcome))
        picture = render_bars(scenario, rows)
        if picture is not None:
            file = folder / f"{name}-{scenario.name}.svg"
            file.write_text(picture, encoding="utf-8")
            parts.append(f"![{scenario.title}]({file.name})")
    table = folder / f"{name}.md"
    table.write_text("\n\n".join(parts) + "\n", encoding="utf-8")
    return table


def _render_heading(about: Mapping[str, Any]) -> str:
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


def _render_section(scenario: Scenario, rows: Sequence[ResultRow], outcome: BenchmarkRun) -> str:
    notes = outcome.notes.get(scenario.name, ())
    lines = [f"## {scenario.name}: {scenario.title}", "", *(f"- {note}" for note in notes), ""]
    if not rows:
        return "\n".join(lines).rstrip()
    lines.append(TABLE_HEAD)
    seen = ""
    for row in rows:
        if row.line != seen:
            lines.append(f"| **{row.line}** {'| ' * 10}".rstrip())
            seen = row.line
        lines.append(_render_row(scenario, row, rows, full=outcome.is_full))
    return "\n".join(lines)


def _render_row(
    scenario: Scenario, row: ResultRow, rows: Sequence[ResultRow], *, full: bool
) -> str:
    ours = next((one for one in rows if one.line == row.line and one.who == OURS), None)
    times = compute_ratio(ours, row) if ours is not None and row.who != OURS else None
    targets = [one for one in scenario.targets if one.line == row.line and _is_for(one, row.who)]
    cells = [
        row.who,
        f"{format_number(row.median)} {row.unit}",
        f"{row.spread:.0%}" if len(row.samples) > 1 else "",
        f"{times:.2f} x" if times is not None else "",
        *(_render_figure(row, name) for name in ("cpu", "postgres_cpu", "tenant_cpu", "peak_mb")),
        "; ".join(one.render() for one in targets),
        "; ".join(judge_target(one, rows, full=full) for one in targets),
    ]
    return f"| {' | '.join(cells)} |"


def _is_for(target: SpeedTarget, who: str) -> bool:
    """Whether a row shows a target; a ratio is shown in the row of the peer."""
    return target.against == who if target.against else who == OURS


def _render_figure(row: ResultRow, name: str) -> str:
    value = row.median_of(name)
    return "" if value is None else f"{value:.2f}" if name != "peak_mb" else f"{value:.0f}"


def find_missed_targets(outcome: BenchmarkRun) -> list[str]:
    """Return the targets that were missed."""
    return [
        f"{target.line}: {target.render()}"
        for scenario in outcome.scenarios
        for target in scenario.targets
        if judge_target(target, outcome.rows(scenario), full=outcome.is_full) == "NOT reached"
    ]
