"""Commands that look: what is fresh, what is stuck, and whether the events tell the tables."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from worker.core.settings import Settings
from worker.ops.budgets import budget_of, outage_of, shared_gate
from worker.ops.cli.health_lines import clock_lines, freshness_line, worker_lines
from worker.ops.cli.output import (
    APPROVE_MISSING,
    FAILED,
    age,
    as_json,
    drift_line,
    opened,
    print_json,
    print_table,
)
from worker.ops.sink_health import Health, look
from worker.store.connections import find
from worker.store.host_clocks import all_hosts_off
from worker.store.overview import connections_overview, streams_overview
from worker.store.service import (
    MissingConnections,
    age_of,
    halt_reason,
    missing_connections,
)
from worker.store.workers import list_workers, unserved
from worker.tasks.queues import QUEUES

if TYPE_CHECKING:
    from worker.nango.gate import Gate


@click.command()
@click.argument("connection", required=False)
@as_json
def status(connection: str | None, as_json: bool) -> None:  # noqa: FBT001
    """What is fresh, what is stuck, and why; of CONNECTION, its streams too."""
    with opened() as (settings, database), database.begin() as connected:
        chosen = find(connected, connection).id if connection else None
        rows = connections_overview(connected, chosen)
        streams = streams_overview(connected, chosen) if chosen is not None else None
        tick = age_of(connected, "tick")
        halt = halt_reason(connected)
        missing = missing_connections(connected)
        health = look(connected, settings)
        workers = list_workers(connected)
        clocks = all_hosts_off(connected)
    _mark_missing(rows, missing)
    alive = tick is not None and tick < 6 * settings.tick_seconds + 30
    shared = _look_at_budgets(settings, rows)
    budget, outage = shared.budget, shared.outage
    if as_json:
        told: dict[str, object] = {
            "dispatcher_alive": alive,
            "tick_age_seconds": tick,
            "halted": halt or (outage["reason"] if outage else None),
            "nango_outage": outage,
            "no_room": shared.shortage,
            "redis": shared.unusable,
            "missing_connections": missing and vars(missing),
            "workers": [vars(one) | {"is_alive": one.is_alive} for one in workers],
            "unserved_queues": unserved(workers, QUEUES),
            "clocks_off": [vars(one) for one in clocks],
            "nango_budget": budget,
            "sinks": health.sinks,
            "connections": rows,
        }
        print_json(told if streams is None else {**told, "streams": streams})
        return
    said = "alive" if alive else "not running" if tick is None else f"silent for {age(tick)}"
    click.echo(f"dispatcher: {said}")
    for line in (
        *worker_lines(workers),
        *clock_lines(clocks),
        *_service_lines(halt, outage, missing),
    ):
        click.echo(line)
    for line in shared.lines():
        click.echo(line)
    if budget:
        click.echo(_budget_line(budget))
    for alarm in health.alarms():
        click.echo(alarm)
    _connections_table(rows)
    if streams is not None:
        click.echo()
        _streams_table(streams)
    elif health.sinks:
        click.echo()
        _sinks_table(health)


def _service_lines(
    halt: str | None, outage: Mapping[str, Any] | None, missing: MissingConnections | None
) -> Iterator[str]:
    """What holds up more than one connection."""
    if halt:
        yield f"HALTED: {halt}"
    if outage:
        yield (
            f"NANGO DOES NOT WORK for {age(outage['seconds'])}: {outage['reason']}; nothing is "
            "sent, it is asked every few seconds, and all goes on once it answers"
        )
    if missing:
        yield f"HELD for {age(missing.seconds)}: {missing.reason}. {APPROVE_MISSING}"


def _mark_missing(rows: list[dict[str, Any]], missing: MissingConnections | None) -> None:
    """Tell each connection that Nango's list lacks, and that is held instead of retired."""
    for row in rows:
        if missing and row["id"] in missing.ids:
            row["attention"] = [*row["attention"], "missing from Nango's list; held"]


@dataclass(frozen=True)
class _Shared:
    """What the workers share through Redis; None where nothing is shared or known."""

    budget: dict[str, Any] | None = None
    outage: dict[str, Any] | None = None
    shortage: str | None = None
    """What a worker found to be used up within the last minutes."""
    unusable: str | None = None
    """Why Redis cannot be written to now."""

    def lines(self) -> Iterator[str]:
        if self.shortage:
            yield f"NO ROOM: {self.shortage}"
        if self.unusable and self.unusable != self.shortage:
            yield f"REDIS: {self.unusable}; until then no work is sent to the workers"


def _look_at_budgets(settings: Settings, rows: list[dict[str, Any]]) -> _Shared:
    """Nango's budget as the workers share it, its outage, and what has no room left.

    Each row is told what Graph asks of it.
    """
    for row in rows:
        row["graph_pauses"] = {}
    gate = shared_gate(settings)
    if gate is None:
        return _Shared()
    from worker.core.log import configure_at_need

    configure_at_need("WARNING", "console")
    try:
        unusable = gate.unusable()
        return _Shared(_told_by(gate, settings, rows), outage_of(gate), gate.shortage(), unusable)
    finally:
        gate.close()


def _told_by(gate: "Gate", settings: Settings, rows: list[dict[str, Any]]) -> dict[str, Any] | None:
    labels = [f"{row['provider_config_key']}/{row['nango_connection_id']}" for row in rows]
    pauses = gate.pauses(labels)
    for row, label in zip(rows, labels, strict=True):
        found = pauses.get(label, {})
        row["graph_pauses"] = {service: round(seconds, 1) for service, seconds in found.items()}
    return budget_of(gate, is_set=settings.nango_calls_per_minute is not None)


def _budget_line(budget: Mapping[str, Any]) -> str:
    """One sentence for people."""
    pause = budget["paused_for_seconds"]
    paused = f"; PAUSED by Nango for {age(pause)}" if pause else ""
    if budget["limit"] is None:
        return f"Nango's budget: not known{paused}"
    source = "as set here" if budget["source"] == "set" else "as Nango tells"
    resets = budget["resets_in_seconds"]
    until = f" for {resets:.0f} s" if resets is not None else ""
    counts = f"{budget['left']:,} of {budget['limit']:,} calls left{until}"
    return f"Nango's budget: {counts} ({source}){paused}"


def _connections_table(rows: Sequence[Mapping[str, Any]]) -> None:
    print_table(
        "",
        ["id", "connection", "organization", "status", "fresh", "last run", "events", "attention"],
        [
            [
                str(row["id"]),
                f"{row['provider_config_key']}/{row['nango_connection_id']}",
                row["display_name"],
                row["status"],
                freshness_line(row["freshness"] or {}),
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
                                f"Graph asks to slow down ({service}) for {age(seconds)}"
                                for service, seconds in row["graph_pauses"].items()
                            ),
                        ],
                    )
                ),
            ]
            for row in rows
        ],
    )


def _streams_table(rows: Sequence[Mapping[str, Any]]) -> None:
    print_table(
        "streams",
        ["resource", "phase", "mode", "fresh", "last full walk", "deltas had missed", "why"],
        [
            [
                row["resource"],
                row["phase"],
                row["mode"],
                age(row["age_seconds"]),
                f"{row['full_walk_at']:%Y-%m-%d %H:%M}" if row["full_walk_at"] else "",
                drift_line(row["drift"]) if row["drift"] is not None else "",
                "; ".join(filter(None, [row["reason"], row["unresolved"]])),
            ]
            for row in rows
        ],
    )


def _sinks_table(health: Health) -> None:
    print_table(
        "sinks",
        ["sink", "kind", "status", "waiting", "oldest", "notes"],
        [
            [
                row["name"],
                row["kind"],
                row["status"],
                row["waiting"],
                age(row["lag_seconds"]) if row["waiting"] else "",
                "; ".join(row["notes"]),
            ]
            for row in health.sinks
        ],
    )


@click.command()
@click.argument("connection")
@as_json
def verify(connection: str, as_json: bool) -> None:  # noqa: FBT001
    """Check that the change events of CONNECTION tell its tables.

    Undoes the events from today's rows backwards, in one snapshot, and checks that each fits.
    """
    from worker.events.verify import verify as check

    with opened() as (_, database):
        with database.begin() as db:
            known = find(db, connection)
        with database.begin() as db:
            found = check(db, known.id)
    if as_json:
        print_json({"connection": known.label, **vars(found)})
    else:
        back = "from the very first" if found.whole_history else f"back to {found.oldest_at:%F}"
        click.echo(
            f"{known.label}: {found.rows:,} live rows and {found.events:,} events, {back}: "
            f"{'all fit' if not found.problem_count else f'{found.problem_count:,} do not fit'}"
            f"{f'; {found.erased:,} erased ones passed over' if found.erased else ''}"
        )
        for problem in found.problems:
            click.echo(f"  {problem}")
        for name, why in found.unresolved.items():
            click.echo(f"  not compared with Graph, {name}: {why}")
    raise SystemExit(FAILED if found.problem_count else 0)
