"""Actions on one connection, or on all that a filter matches: choose, price, ask, carry out."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from typing import TYPE_CHECKING, Any, Final

import click

from models.connection import ConnectionStatus
from models.operation import Action, TargetState
from worker.conditions.condition import Code
from worker.core.settings import Settings
from worker.operations.actor import get_host_actor
from worker.operations.outcome import find_outcome, name_state
from worker.ops.cli.exit_codes import EXIT_FAILED, EXIT_PARTIAL
from worker.ops.cli.filter_options import Option, build_filter_options
from worker.ops.cli.output import confirm, print_json, print_line
from worker.ops.cli.progress import Progress
from worker.store.engine import Database
from worker.store.state.connections import (
    SYNCED_STATUSES,
    Connection,
    find_connection,
    get_connections,
)

if TYPE_CHECKING:
    from worker.operations.foreground import Outcome
    from worker.operations.price import Price
    from worker.operations.request import Parameters


MAX_LISTED: Final = 20
"""Failed connections that are listed one by one."""

_APPLIES: Final[Mapping[Action, Callable[[Connection], bool]]] = {
    Action.RESYNC: lambda one: one.status in SYNCED_STATUSES,
    Action.PAUSE: lambda one: one.status is not ConnectionStatus.RETIRED,
    Action.RESUME: lambda one: one.is_operator_paused,
}
"""Which connections of a filter an action is applied to; the others are left out."""


@dataclass(frozen=True)
class Selection:
    """The options that choose connections and confirm an action on them."""

    connection: str | None
    everything: bool
    conditions: tuple[str, ...]
    statuses: tuple[str, ...]
    search: str
    yes: bool
    expect: int | None
    dry_run: bool

    @property
    def narrows(self) -> bool:
        """Whether it names what the connections have in common."""
        return bool(self.conditions or self.statuses or self.search)

    @property
    def has_filter(self) -> bool:
        return self.everything or self.narrows

    def check(self) -> None:
        """Raise UsageError unless it names one connection, or a filter."""
        if (self.connection is None) != self.has_filter:
            raise click.UsageError(
                "give a CONNECTION, or --all, --condition, --status or --search for many"
            )

    def to_json(self) -> dict[str, Any]:
        """Return the filter, for the record."""
        return {
            "conditions": list(self.conditions),
            "statuses": list(self.statuses),
            "text": self.search,
        }


_OPTIONS: Final[tuple[Option, ...]] = (
    click.argument("connection", required=False),
    click.option("--all", "everything", is_flag=True, help="All connections that it applies to."),
    *build_filter_options("All"),
    click.option(
        "--dry-run", is_flag=True, help="Only show how many connections, and what it would cost."
    ),
    click.option(
        "--expect",
        type=click.IntRange(1),
        metavar="N",
        help="With --yes, for many: the number that --dry-run showed; another changes nothing.",
    ),
    click.option("--yes", is_flag=True, help="Do not ask for confirmation; for scripts."),
)


def selection_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that choose connections."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


@dataclass(frozen=True)
class Choice:
    """The connections that an action is applied to."""

    connections: Sequence[Connection]
    left_out: int
    """Connections that match, and to which it does not apply."""
    calls_per_minute: int | None


def choose_connections(
    settings: Settings, database: Database, action: Action, selection: Selection
) -> Choice:
    """Return the connections that were chosen. Raises UsageError, NotFound."""
    if selection.connection is not None:
        with database.open_transaction() as db:
            return Choice([find_connection(db, selection.connection)], 0, None)
    from worker.overview.fleet import load_fleet
    from worker.overview.listing import ConnectionFilter, match_ids

    fleet = load_fleet(database, settings)
    wanted = ConnectionFilter(
        conditions=frozenset(map(Code, selection.conditions)),
        statuses=frozenset(selection.statuses),
        text=selection.search,
    )
    with database.open_transaction() as db:
        matches = get_connections(db, match_ids(fleet, wanted))
    chosen = [one for one in matches if _APPLIES[action](one)]
    budget = fleet.service.shared.budget
    limit = budget.limit if budget else settings.nango_calls_per_minute
    left_out = len(matches) - len(chosen) if selection.narrows else 0
    return Choice(chosen, left_out, limit)


def run_bulk(
    settings: Settings,
    database: Database,
    action: Action,
    parameters: "Parameters",
    *,
    selection: Selection,
    choice: Choice,
    as_json: bool,
) -> None:
    """Show the price, ask, carry out, and report. Exits with the code of the outcome."""
    from worker.operations.foreground import carry_out
    from worker.operations.request import OperationRequest

    cost = _load_price(database, parameters, choice)
    if selection.dry_run:
        _print_dry_run(action, choice, cost, as_json=as_json)
        return
    if not choice.connections:
        print_line(f"no connection matches that {action} applies to", err=True)
        return
    _confirm(action, selection, choice, cost)
    ids = [one.id for one in choice.connections]
    request = OperationRequest(
        action, ids, parameters, selection.expect, chosen_by=selection.to_json()
    )
    ended = count(1)
    with Progress(action.value, total=len(ids)) as progress:
        outcome = carry_out(
            database,
            get_host_actor(settings),
            request,
            lambda *_: progress.update(next(ended), "connections"),
        )
    _report(action, choice, outcome, as_json=as_json)
    if outcome.failed:
        raise SystemExit(EXIT_FAILED if len(outcome.failed) == len(ids) else EXIT_PARTIAL)


def _load_price(database: Database, parameters: "Parameters", choice: Choice) -> "Price | None":
    """Return what a resync costs; None for actions that cost no calls."""
    from worker.operations.price import price
    from worker.operations.request import ResyncParameters

    if not isinstance(parameters, ResyncParameters):
        return None
    with database.open_transaction() as db:
        return price(
            db,
            [one.id for one in choice.connections],
            full=parameters.full,
            calls_per_minute=choice.calls_per_minute,
        )


def _print_dry_run(action: Action, choice: Choice, cost: "Price | None", *, as_json: bool) -> None:
    number = len(choice.connections)
    if as_json:
        facts: dict[str, Any] = {"action": action, "connections": number, "dry_run": True}
        if cost is not None:
            facts |= {"calls": cost.calls, "minutes": cost.minutes, "unknown": cost.unknown}
        print_json({**facts, "left_out": choice.left_out})
        return
    print_line(f"{action}: {_describe(choice, cost)}; nothing was done")
    print_line(f"to do it without a question: --yes --expect {number}", err=True)


def _describe(choice: Choice, cost: "Price | None") -> str:
    text = f"connections: {len(choice.connections):,}"
    if choice.left_out:
        text += f" ({choice.left_out:,} that match are left out, as it does not apply to them)"
    return f"{text}; {cost.describe()}" if cost is not None else text


def _confirm(action: Action, selection: Selection, choice: Choice, cost: "Price | None") -> None:
    """Ask for confirmation. Raises UsageError without a terminal, or without the number."""
    number = len(choice.connections)
    if selection.yes:
        if selection.expect is None:
            raise click.UsageError(
                f"--yes for many needs --expect N; {number:,} connections match now (--dry-run)"
            )
        return
    text = _describe(choice, cost)
    confirm(f"{action.capitalize()}: {text}. Do it?", f"{action} of many: {text}")


def _report(action: Action, choice: Choice, outcome: "Outcome", *, as_json: bool) -> None:
    failed = outcome.failed
    if as_json:
        print_json(
            {
                "action": action,
                "operation": outcome.operation.id,
                "state": outcome.operation.state,
                "outcome": find_outcome(action, outcome.operation.state),
                "connections": len(outcome.targets),
                "failed": [{"id": one.connection_id, "detail": one.detail} for one in failed],
            }
        )
        return
    labels = {one.id: one.title for one in choice.connections}
    done = len(outcome.targets) - len(failed)
    word = name_state(action, TargetState.DONE)
    print_line(f"{action}: connections: {done:,} {word}, {len(failed):,} failed")
    for one in failed[:MAX_LISTED]:
        print_line(f"  {labels[one.connection_id]}: {one.detail}", err=True)
    if len(failed) > MAX_LISTED:
        print_line(f"  and {len(failed) - MAX_LISTED:,} more", err=True)


def run_single(
    settings: Settings,
    database: Database,
    action: Action,
    parameters: "Parameters",
    connection: Connection,
) -> "Outcome":
    """Carry out an action on one connection."""
    from worker.operations.foreground import carry_out
    from worker.operations.request import OperationRequest

    request = OperationRequest(action, [connection.id], parameters)
    return carry_out(database, get_host_actor(settings), request)


def report_single(connection: Connection, outcome: "Outcome", *, as_json: bool) -> None:
    """Print what became of one connection. Exits with 1 if it failed."""
    (target,) = outcome.targets
    if as_json:
        print_json(
            {
                "connection": connection.label,
                "id": connection.id,
                "operation": outcome.operation.id,
                "state": outcome.operation.state,
                "outcome": find_outcome(outcome.operation.action, outcome.operation.state),
                "detail": target.detail,
                **(target.result or {}),
            }
        )
    else:
        print_line(f"{connection.title}: {target.detail}", err=bool(outcome.failed))
    if outcome.failed:
        raise SystemExit(EXIT_FAILED)
