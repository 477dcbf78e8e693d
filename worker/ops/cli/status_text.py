"""Prints the fleet for people: the service, what needs attention, and one connection."""

import sys
from collections.abc import Iterator, Sequence
from datetime import datetime

from models.connection import ConnectionStatus
from worker.conditions.condition import Condition
from worker.conditions.facts import BudgetFacts
from worker.conditions.texts import CLIENT_ID, CLIENT_ID_HINT
from worker.core.time_text import render_age, render_count, render_moment
from worker.delivery.health import SinkHealth
from worker.ops.cli.attention_rows import SEVERITY_COLORS, build_attention_rows
from worker.ops.cli.output import print_table
from worker.ops.cli.screen_lines import EMPTY_LINE, ScreenLine, fold_lines, print_lines
from worker.ops.cli.status_lines import render_freshness
from worker.ops.cli.table_layout import detect_height, detect_width
from worker.overview.fleet import Fleet, FleetConnection
from worker.overview.listing import ConnectionPage
from worker.overview.rows import build_freshness, list_sentences
from worker.store.service.workers import Worker


def build_service_lines(fleet: Fleet, workers: Sequence[Worker]) -> Iterator[ScreenLine]:
    """Yield the totals, the state of the service, and what is wrong with it."""
    yield ScreenLine(render_totals(fleet), is_bold=True)
    yield from build_state_lines(fleet, workers)
    for condition in fleet.conditions:
        yield from _build_condition_lines(condition, "", name=condition.subject)


def build_state_lines(fleet: Fleet, workers: Sequence[Worker]) -> Iterator[ScreenLine]:
    """Yield the state of the dispatcher, the workers and Nango's budget."""
    service = fleet.service
    age = service.tick_age
    silence = "not running" if age is None else f"silent for {render_age(age)}"
    yield ScreenLine(f"dispatcher: {'alive' if service.is_dispatcher_alive else silence}")
    if workers:
        alive = sum(one.is_alive for one in workers)
        silent = f", {len(workers) - alive} silent" if alive < len(workers) else ""
        yield ScreenLine(f"workers: {alive} alive{silent}; 'tenant-mirror workers' lists them")
    if service.shared.budget is not None:
        yield ScreenLine(render_budget(service.shared.budget))


def render_totals(fleet: Fleet) -> str:
    """Return how many connections are fine, paused, waiting, or need attention."""
    total = render_count(len(fleet.in_use), "connection")
    attention = fleet.attention_count
    counts = [f"{fleet.fine_count:,} fine"]
    if fleet.paused_count:
        counts.append(f"{fleet.paused_count:,} paused")
    if fleet.waiting_count:
        counts.append(f"{fleet.waiting_count:,} waiting for the service")
    if attention:
        counts.append(f"{attention:,} {'needs' if attention == 1 else 'need'} attention")
    others = [
        f"{number:,} {status}"
        for status, number in sorted(fleet.status_counts.items())
        if status not in (ConnectionStatus.ACTIVE, ConnectionStatus.PAUSED)
    ]
    among = f" (by status: {', '.join(others)})" if others else ""
    return f"{total}: {', '.join(counts)}{among}"


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


def print_overview(
    fleet: Fleet, workers: Sequence[Worker], page: ConnectionPage, *, reserved: int
) -> None:
    """Print the service, and the connections that a filter matches.

    Each connection is a block with its conditions, their remedies and what happens next. On a
    terminal where the blocks have no room, each is one row; ``reserved`` lines are left free.
    """
    width, height = detect_width(sys.stdout), detect_height(sys.stdout)
    service = fold_lines(build_service_lines(fleet, workers), width)
    blocks = fold_lines(_build_blocks(page), width)
    room = None if height is None else height - reserved - len(service)
    if room is None or width is None or len(blocks) <= room:
        print_lines([*service, *blocks])
    else:
        print_lines([*service, *_build_rows(page, width)])


def _build_blocks(page: ConnectionPage) -> Iterator[ScreenLine]:
    for one in page.rows:
        yield EMPTY_LINE
        yield from _build_block(one)
    rest = page.total - len(page.rows)
    if rest > 0:
        yield EMPTY_LINE
        yield ScreenLine(f"and {rest:,} more: --limit N, --all or --json shows them")


def _build_rows(page: ConnectionPage, width: int) -> Iterator[ScreenLine]:
    yield EMPTY_LINE
    yield from build_attention_rows(page.rows, width)
    rest = page.total - len(page.rows)
    more = f"{rest:,} more: --limit N, --all or --json; " if rest > 0 else ""
    yield ScreenLine(f"{more}cause and remedy: tenant-mirror status ID")


def build_connection_lines(one: FleetConnection, now: datetime) -> Iterator[ScreenLine]:
    """Yield everything that is judged of one connection."""
    yield EMPTY_LINE
    yield from _build_block(one)
    facts = one.facts
    for name, value in (
        ("tenant", facts.tenant_id),
        ("fresh", render_freshness(build_freshness(facts, now) or {})),
        ("last run", _render_outcome(one, now)),
        ("change events", f"{facts.events:,}"),
    ):
        if value:
            yield ScreenLine(f"{name}: {value}", "    ")


def _build_block(one: FleetConnection) -> Iterator[ScreenLine]:
    facts = one.facts
    named = f"{facts.name} ({facts.label})" if facts.name else facts.label
    yield ScreenLine(f"{facts.id}  {named}, {facts.status}", is_bold=True)
    for condition in one.conditions:
        yield from _build_condition_lines(condition, "    ")
    if one.cause is not None:
        yield ScreenLine(f"held up by {one.cause.code}: {one.cause.wait}", "    ")
    yield ScreenLine(f"now: {one.activity.sentence}", "    ")


def _render_outcome(one: FleetConnection, now: datetime) -> str | None:
    facts = one.facts
    if facts.last_state is None:
        return None
    at = facts.last_finished_at
    return f"{facts.last_state}{f' at {render_moment(at, now)}' if at else ''}"


def _build_condition_lines(
    condition: Condition, indent: str, *, name: str = ""
) -> Iterator[ScreenLine]:
    severity = condition.severity
    is_whole = condition.connection_id is not None and condition.resource is None
    about = f"{name} " if name else "it " if is_whole else ""
    line = f"{severity.upper()} {condition.code}: {about}{condition.sentence}"
    yield ScreenLine(line, indent, color=SEVERITY_COLORS.get(severity))
    yield ScreenLine(f"do: {condition.remedy}", f"{indent}    ")
    if condition.customer_text:
        put = f" ({CLIENT_ID_HINT})" if CLIENT_ID in condition.customer_text else ""
        yield ScreenLine(f"to the customer{put}: {condition.customer_text}", f"{indent}    ")


def explain_no_connection(fleet: Fleet) -> str:
    """Return why a list of connections is empty."""
    if fleet.connections:
        return "no connection matches"
    return (
        "no connection is known yet; 'tenant-mirror connections discover' reads Nango's list, as "
        "the dispatcher does by itself"
    )


def print_connections(rows: Sequence[FleetConnection], now: datetime) -> None:
    """Print a table of connections."""
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
