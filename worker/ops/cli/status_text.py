"""Prints the fleet for people: the service, what needs attention, and one connection."""

import sys
import textwrap
from collections.abc import Iterator, Sequence
from datetime import datetime

import click

from worker.conditions.condition import Condition, Severity
from worker.conditions.facts import BudgetFacts
from worker.core.time_text import render_age, render_count, render_moment
from worker.delivery.health import SinkHealth
from worker.ops.cli.output import print_table
from worker.ops.cli.status_lines import render_freshness
from worker.ops.cli.table_layout import detect_width
from worker.ops.event_line import to_one_line
from worker.overview.fleet import Fleet, FleetConnection
from worker.overview.listing import ConnectionPage
from worker.overview.rows import build_freshness, list_sentences
from worker.store.service.workers import Worker

_COLORS = {Severity.WARNING: "yellow", Severity.ERROR: "red", Severity.CRITICAL: "red"}
_MIN_WRAP_WIDTH = 40


def print_service(fleet: Fleet, workers: Sequence[Worker]) -> None:
    """Print the totals, the state of the service, and what is wrong with it."""
    _print_line(_render_totals(fleet), bold=True)
    service = fleet.service
    age = service.tick_age
    silence = "not running" if age is None else f"silent for {render_age(age)}"
    _print_line(f"dispatcher: {'alive' if service.is_dispatcher_alive else silence}")
    if workers:
        alive = sum(one.is_alive for one in workers)
        silent = f", {len(workers) - alive} silent" if alive < len(workers) else ""
        _print_line(f"workers: {alive} alive{silent}; 'tenant-mirror workers' lists them")
    if service.shared.budget is not None:
        _print_line(render_budget(service.shared.budget))
    for condition in fleet.conditions:
        _print_condition(condition, "", name=condition.subject)


def _render_totals(fleet: Fleet) -> str:
    total = render_count(len(fleet.in_use), "connection")
    attention = fleet.attention_count
    need = f", {attention:,} {'needs' if attention == 1 else 'need'} attention" if attention else ""
    others = [
        f"{number:,} {status}"
        for status, number in sorted(fleet.status_counts.items())
        if status != "active"
    ]
    among = f" (among them {', '.join(others)})" if others else ""
    return f"{total}: {fleet.fine_count:,} fine{need}{among}"


def render_budget(budget: BudgetFacts) -> str:
    """Return Nango's budget in one sentence."""
    pause = budget.paused_for_seconds
    paused = f"; PAUSED by Nango for {render_age(pause)}" if pause else ""
    if budget.limit is None:
        return f"Nango's budget: unknown{paused}"
    source = "set here" if budget.source == "set" else "reported by Nango"
    resets = budget.resets_in_seconds
    until = f" for {resets:.0f} s" if resets is not None else ""
    return (
        f"Nango's budget: {budget.left:,} of {budget.limit:,} calls left{until} ({source}){paused}"
    )


def print_matches(page: ConnectionPage) -> None:
    """Print the connections that a filter matches, as blocks."""
    for one in page.rows:
        click.echo()
        _print_block(one)
    rest = page.total - len(page.rows)
    if rest > 0:
        click.echo()
        _print_line(f"and {rest:,} more: --limit N, --all or --json shows them")


def print_connection(one: FleetConnection, now: datetime) -> None:
    """Print everything that is judged of one connection."""
    click.echo()
    _print_block(one)
    facts = one.facts
    for name, value in (
        ("tenant", facts.tenant_id),
        ("fresh", render_freshness(build_freshness(facts, now) or {})),
        ("last run", _render_outcome(one, now)),
        ("change events", f"{facts.events:,}"),
    ):
        if value:
            _print_line(f"{name}: {value}", indent="    ")


def _print_block(one: FleetConnection) -> None:
    facts = one.facts
    named = f"{facts.name} ({facts.label})" if facts.name else facts.label
    _print_line(f"{facts.id}  {named}, {facts.status}", bold=True)
    for condition in one.conditions:
        _print_condition(condition, "    ")
    if one.cause is not None:
        _print_line(f"held up by {one.cause.code}: {one.cause.wait}", indent="    ")
    _print_line(f"now: {one.activity.sentence}", indent="    ")


def _render_outcome(one: FleetConnection, now: datetime) -> str | None:
    facts = one.facts
    if facts.last_state is None:
        return None
    at = facts.last_finished_at
    return f"{facts.last_state}{f' at {render_moment(at, now)}' if at else ''}"


def _print_condition(condition: Condition, indent: str, *, name: str = "") -> None:
    severity = condition.severity
    about = f"{name} " if name else ""
    line = f"{severity.upper()} {condition.code}: {about}{condition.sentence}"
    _print_line(line, indent=indent, color=_COLORS.get(severity))
    _print_line(f"do: {condition.remedy}", indent=f"{indent}    ")
    if condition.customer_text:
        _print_line(f"to the customer: {condition.customer_text}", indent=f"{indent}    ")


def _print_line(
    line: str, *, indent: str = "", bold: bool = False, color: str | None = None
) -> None:
    """Print a line, folded between words on a terminal; in a pipe it stays one line."""
    for part in _fold(to_one_line(line), indent, detect_width(sys.stdout)):
        click.secho(part, bold=bold or None, fg=color)


def _fold(line: str, indent: str, width: int | None) -> Iterator[str]:
    if width is None:
        yield f"{indent}{line}"
        return
    yield from textwrap.wrap(
        line,
        max(width, _MIN_WRAP_WIDTH),
        initial_indent=indent,
        subsequent_indent=f"{indent}  ",
        break_long_words=False,
        break_on_hyphens=False,
    )


def print_connections(rows: Sequence[FleetConnection], now: datetime) -> None:
    """Print a table of connections."""
    click.echo()
    print_table(
        "",
        ["id", "connection", "organization", "status", "fresh", "last run", "events", "attention"],
        [
            [
                str(one.id),
                one.facts.label,
                one.facts.name,
                one.facts.status,
                render_freshness(build_freshness(one.facts, now) or {}),
                "running" if one.facts.running_id is not None else one.facts.last_state,
                one.facts.events,
                "; ".join(list_sentences(one)),
            ]
            for one in rows
        ],
        prose=("organization", "fresh", "attention"),
    )


def print_sinks(health: SinkHealth) -> None:
    """Print a table of sinks."""
    print_table(
        "sinks",
        ["sink", "kind", "status", "waiting", "oldest", "notes"],
        [
            [
                row["name"],
                row["kind"],
                row["status"],
                row["waiting"],
                render_age(row["lag_seconds"]) if row["waiting"] else None,
                "; ".join(row["notes"]),
            ]
            for row in health.sinks
        ],
        prose=("notes",),
    )
