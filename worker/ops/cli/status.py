"""The command ``status``: shows what is fresh, what is stuck, and why."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from models.queues import ALL_QUEUES
from worker.core.settings import Settings
from worker.core.time_text import render_age
from worker.delivery.health import SinkHealth, load_sink_health
from worker.graph.throttle import SERVICES
from worker.ops.cli.output import (
    APPROVE_MISSING_HINT,
    json_option,
    open_checked_database,
    print_json,
    print_table,
    render_drift,
    render_time,
)
from worker.ops.cli.status_lines import render_clocks, render_freshness, render_workers
from worker.overview.budget import load_budget, load_outage, open_shared_limiter
from worker.store.service.facts import (
    MissingConnections,
    get_fact_age,
    get_halt_reason,
    load_missing_connections,
)
from worker.store.service.host_clocks import list_skewed_hosts_and_own
from worker.store.service.workers import list_unserved_queues, list_workers
from worker.store.state.connections import find_connection
from worker.store.state.overview import load_connections_overview, load_streams_overview

if TYPE_CHECKING:
    from worker.nango.limiter import RateLimiter


@click.command()
@click.argument("connection", required=False)
@json_option
def status(connection: str | None, as_json: bool) -> None:  # noqa: FBT001
    """Show how fresh the data is, what is stuck, and why; for CONNECTION, its streams, too."""
    with open_checked_database() as (settings, database), database.open_transaction() as connected:
        chosen = find_connection(connected, connection).id if connection else None
        rows = load_connections_overview(connected, chosen)
        streams = load_streams_overview(connected, chosen) if chosen is not None else None
        tick = get_fact_age(connected, "tick")
        halt = get_halt_reason(connected)
        missing = load_missing_connections(connected)
        health = load_sink_health(connected, settings)
        workers = list_workers(connected)
        clocks = list_skewed_hosts_and_own(connected)
    _add_missing_notes(rows, missing)
    alive = tick is not None and tick < 6 * settings.tick_seconds + 30
    shared = _load_redis_state(settings, rows)
    budget, outage = shared.budget, shared.outage
    if as_json:
        told: dict[str, object] = {
            "dispatcher_alive": alive,
            "tick_age_seconds": tick,
            "halted": halt or (outage["reason"] if outage else None),
            "nango_outage": outage,
            "no_room": shared.storage_problem,
            "redis": shared.redis_problem,
            "missing_connections": missing and vars(missing),
            "workers": [vars(one) | {"is_alive": one.is_alive} for one in workers],
            "unserved_queues": list_unserved_queues(workers, ALL_QUEUES),
            "clocks_off": [vars(one) for one in clocks],
            "nango_budget": budget,
            "sinks": health.sinks,
            "connections": rows,
        }
        print_json(told if streams is None else {**told, "streams": streams})
        return
    said = "alive" if alive else "not running" if tick is None else f"silent for {render_age(tick)}"
    click.echo(f"dispatcher: {said}")
    for line in (
        *render_workers(workers),
        *render_clocks(clocks),
        *_render_service(halt, outage, missing),
    ):
        click.echo(line)
    for line in shared.render_lines():
        click.echo(line)
    if budget:
        click.echo(_render_budget(budget))
    for alarm in health.list_alarms():
        click.echo(alarm)
    _print_connections(rows)
    if streams is not None:
        click.echo()
        _print_streams(streams)
    elif health.sinks:
        click.echo()
        _print_sinks(health)


def _render_service(
    halt: str | None, outage: Mapping[str, Any] | None, missing: MissingConnections | None
) -> Iterator[str]:
    """Yield lines about what holds up more than one connection."""
    if halt:
        yield f"HALTED: {halt}"
    if outage:
        yield (
            f"NANGO DOES NOT WORK for {render_age(outage['seconds'])}: {outage['reason']}; "
            "syncs are suspended until it answers, which is checked every few seconds"
        )
    if missing:
        yield f"HELD for {render_age(missing.seconds)}: {missing.reason}. {APPROVE_MISSING_HINT}"


def _add_missing_notes(rows: list[dict[str, Any]], missing: MissingConnections | None) -> None:
    """Add a note to each connection missing from Nango's list and held instead of retired."""
    for row in rows:
        if missing and row["id"] in missing.ids:
            row["attention"] = [*row["attention"], "missing from Nango's list; held"]


@dataclass(frozen=True)
class _RedisState:
    """What the workers share through Redis; None for what is not shared or known."""

    budget: dict[str, Any] | None = None
    outage: dict[str, Any] | None = None
    storage_problem: str | None = None
    """The shortage that a worker met within the last minutes."""
    redis_problem: str | None = None
    """Why Redis cannot be written now."""

    def render_lines(self) -> Iterator[str]:
        if self.storage_problem:
            yield f"NO ROOM: {self.storage_problem}"
        if self.redis_problem and self.redis_problem != self.storage_problem:
            yield f"REDIS: {self.redis_problem}; no work is sent to the workers until then"


def _load_redis_state(settings: Settings, rows: list[dict[str, Any]]) -> _RedisState:
    """Load Nango's shared budget, its outage, and shortages of disk or memory.

    Adds the pauses that Graph asks for to each row.
    """
    for row in rows:
        row["graph_pauses"] = {}
    limiter = open_shared_limiter(settings)
    if limiter is None:
        return _RedisState()
    from worker.core.log import configure_logging_lazily

    configure_logging_lazily("WARNING", "console")
    try:
        unusable = limiter.find_write_error()
        return _RedisState(
            _load_budget_and_pauses(limiter, settings, rows),
            load_outage(limiter),
            limiter.read_shortage(),
            unusable,
        )
    finally:
        limiter.close()


def _load_budget_and_pauses(
    limiter: "RateLimiter", settings: Settings, rows: list[dict[str, Any]]
) -> dict[str, Any] | None:
    labels = [f"{row['provider_config_key']}/{row['nango_connection_id']}" for row in rows]
    pauses = limiter.read_pauses(labels, SERVICES)
    for row, label in zip(rows, labels, strict=True):
        found = pauses.get(label, {})
        row["graph_pauses"] = {service: round(seconds, 1) for service, seconds in found.items()}
    return load_budget(limiter, is_set=settings.nango_calls_per_minute is not None)


def _render_budget(budget: Mapping[str, Any]) -> str:
    """Return the budget in one sentence for people."""
    pause = budget["paused_for_seconds"]
    paused = f"; PAUSED by Nango for {render_age(pause)}" if pause else ""
    if budget["limit"] is None:
        return f"Nango's budget: unknown{paused}"
    source = "set here" if budget["source"] == "set" else "reported by Nango"
    resets = budget["resets_in_seconds"]
    until = f" for {resets:.0f} s" if resets is not None else ""
    counts = f"{budget['left']:,} of {budget['limit']:,} calls left{until}"
    return f"Nango's budget: {counts} ({source}){paused}"


def _print_connections(rows: Sequence[Mapping[str, Any]]) -> None:
    print_table(
        "",
        ["id", "connection", "organization", "status", "fresh", "last run", "events", "attention"],
        [
            [
                str(row["id"]),
                f"{row['provider_config_key']}/{row['nango_connection_id']}",
                row["display_name"],
                row["status"],
                render_freshness(row["freshness"] or {}),
                row["run_state"],
                row["events"],
                "; ".join(
                    filter(
                        None,
                        [
                            row["status_reason"],
                            row["settings_problem"],
                            *row["attention"],
                            *(
                                f"Graph asks to slow down ({service}) for {render_age(seconds)}"
                                for service, seconds in row["graph_pauses"].items()
                            ),
                        ],
                    )
                ),
            ]
            for row in rows
        ],
        prose=("organization", "fresh", "attention"),
    )


def _print_streams(rows: Sequence[Mapping[str, Any]]) -> None:
    print_table(
        "streams",
        ["resource", "phase", "mode", "fresh", "last full walk (UTC)", "deltas had missed", "why"],
        [
            [
                row["resource"],
                row["phase"],
                row["mode"],
                render_age(row["age_seconds"]),
                render_time(row["full_walk_at"]),
                render_drift(row["drift"]) if row["drift"] is not None else None,
                "; ".join(filter(None, [row["reason"], row["unresolved"]])),
            ]
            for row in rows
        ],
        prose=("deltas had missed", "why"),
    )


def _print_sinks(health: SinkHealth) -> None:
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
