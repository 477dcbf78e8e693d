"""The command ``doctor``: what is wrong with the service and its surroundings, and what to do."""

from collections import defaultdict
from contextlib import ExitStack
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from worker.ops.cli.exit_codes import EXIT_PARTIAL
from worker.ops.cli.output import (
    confirm,
    json_option,
    open_checked_database,
    print_json,
    print_line,
    yes_option,
)
from worker.ops.cli.progress import Progress

if TYPE_CHECKING:
    from collections.abc import Mapping

    from worker.conditions.condition import Condition
    from worker.core.settings import Settings
    from worker.overview.doctor.examine import Examination
    from worker.overview.doctor.live import ProbedTenant
    from worker.overview.fleet import Fleet
    from worker.probe.scope import ProbeScope

MAX_NAMED = 3
"""Connections that are named for one condition; the others are counted."""

_EXAMPLES = """\b
Examples:
  tenant-mirror doctor
  tenant-mirror doctor contoso
  tenant-mirror doctor --all --live --report doctor.jsonl
"""


@click.command(
    epilog=_EXAMPLES
    + "\nExit codes: 0 all is well; 1 failed; 2 usage; 3 something needs attention."
)
@click.argument("connection", required=False)
@click.option("--all", "everyone", is_flag=True, help="With --live: probe every tenant in use.")
@click.option("--live", is_flag=True, help="With --all: confirm that live calls are wanted.")
@click.option(
    "--report",
    type=click.Path(path_type=Path, dir_okay=False),
    help="With --all --live: file with a line for each tenant. Those that it has are not probed "
    "again, so that a run that was stopped goes on.",
)
@yes_option
@json_option
def doctor(
    *,
    connection: str | None,
    everyone: bool,
    live: bool,
    report: Path | None,
    yes: bool,
    as_json: bool,
) -> None:
    """Check the service, its servers, Nango's key, clocks, and what syncs have learnt.

    Sends at most three calls to Nango. With CONNECTION, its tenant is probed as well, with at most
    16 calls, all of them reads. With --all --live every tenant is; the price is told first.
    """
    if everyone != live or (everyone and (connection is not None or report is None)):
        raise click.UsageError(
            "give a CONNECTION, or --all --live with --report FILE, or none of them"
        )
    from worker.core.log import configure_logging
    from worker.ops.cli.probe_scope import build_probe_scope
    from worker.overview.doctor.examine import examine
    from worker.store.state.connections import find_connection, get_connections
    from worker.wiring import open_nango

    configure_logging("CRITICAL", "console")
    with open_checked_database() as (settings, database):
        chosen = None
        if connection is not None:
            with database.open_transaction() as db:
                chosen = find_connection(db, connection).id
        with ExitStack() as stack:
            nango = None
            if settings.nango_secret_key is not None:
                nango = open_nango(settings)
                stack.callback(nango.close)
            found = examine(database, settings, nango, connection_id=chosen)
        scopes = {}
        if chosen is not None or report is not None:
            with database.open_transaction() as db:
                every = get_connections(db, [one.id for one in found.fleet.in_use])
            scopes = {one.id: build_probe_scope(settings, one) for one in every}
    probed: list[ProbedTenant] = []
    if chosen is not None or report is not None:
        confirmed = yes or chosen is not None
        probed = _probe(settings, found.fleet, scopes, report, yes=confirmed, is_silent=as_json)
    if as_json:
        print_json(_build_document(found, probed))
    else:
        _print_examination(found, probed)
    if found.needs_attention or any(one.outcome != "yes" for one in probed):
        raise SystemExit(EXIT_PARTIAL)


def _probe(
    settings: "Settings",
    fleet: "Fleet",
    scopes: "Mapping[int, ProbeScope]",
    report: Path | None,
    *,
    yes: bool,
    is_silent: bool,
) -> "list[ProbedTenant]":
    """Probe the fleet's connections; those of the report are taken from it."""
    from tempfile import TemporaryDirectory

    from worker.overview.doctor.live import compute_price, probe_tenants, read_report
    from worker.wiring import open_nango

    if report is None:
        with TemporaryDirectory() as folder:
            place = Path(folder, "report")
            return _probe(settings, fleet, scopes, place, yes=yes, is_silent=is_silent)
    done = read_report(report)
    left = [one for one in fleet.in_use if one.id not in done]
    budget = fleet.service.shared.budget
    price = compute_price(len(left), budget.limit if budget else None)
    if not yes and left:
        confirm(
            f"{price.connections:,} tenants are probed with at most {price.calls:,} calls, "
            f"in about {max(1, round(price.minutes)):,} min. Continue?",
            f"this sends up to {price.calls:,} calls",
        )
    nango = open_nango(settings)
    try:
        with Progress("doctor", total=len(left), is_silent=is_silent) as progress:
            probed_now = probe_tenants(nango, left, report, get_scope=scopes.__getitem__)
            for number, _ in enumerate(probed_now, 1):
                progress.update(number, "tenants probed")
    finally:
        nango.close()
    probed = read_report(report)
    return [probed[one.id] for one in fleet.in_use if one.id in probed]


def _build_document(found: "Examination", probed: "list[ProbedTenant]") -> dict[str, Any]:
    import msgspec

    return {
        "release": version("tenant-mirror"),
        "needs_attention": found.needs_attention,
        "calls": found.calls,
        "checked": found.checked,
        "findings": [one.to_json() for one in found.diagnoses],
        "conditions": [one.to_json() for one in found.conditions],
        "probed": [msgspec.to_builtins(one) for one in probed],
    }


def _print_examination(found: "Examination", probed: "list[ProbedTenant]") -> None:
    print_line(f"Tenant Mirror {version('tenant-mirror')}")
    for line in found.checked:
        print_line(f"ok        {line}")
    for one in found.diagnoses:
        _print_finding(one.severity, one.subject, one.sentence, one.remedy, one.anchor)
    groups: dict[tuple[str, str | None], list[Condition]] = defaultdict(list)
    for condition in found.conditions:
        groups[condition.code, condition.resource].append(condition)
    for same in groups.values():
        _print_conditions(found.fleet, same)
    for tenant in probed:
        print_line(
            f"{'ok' if tenant.outcome == 'yes' else 'warning':<10}"
            f"connection {tenant.connection_id} can be mirrored: {tenant.outcome}"
            + (f"; does not hold: {'; '.join(tenant.failed)}" if tenant.failed else "")
        )
    if not found.needs_attention:
        print_line("nothing needs attention")


def _print_conditions(fleet: "Fleet", same: "list[Condition]") -> None:
    """Print one condition, which many connections may share."""
    from worker.conditions.texts import CLIENT_ID, CLIENT_ID_HINT

    first = same[0]
    names = ", ".join(map(_name_subject, same[:MAX_NAMED]))
    more = f" and {len(same) - MAX_NAMED:,} more" if len(same) > MAX_NAMED else ""
    next_move = None
    if first.connection_id is not None and len(same) == 1:
        next_move = fleet.by_id[first.connection_id].activity.sentence
    _print_finding(
        first.severity,
        f"{names}{more}",
        first.sentence,
        first.remedy,
        first.anchor,
        next_move=next_move,
    )
    if first.customer_text:
        hint = f" ({CLIENT_ID_HINT})" if CLIENT_ID in first.customer_text else ""
        print_line(f"          text for the customer{hint}:")
        for line in first.customer_text.splitlines():
            print_line(f"            {line}")


def _name_subject(condition: "Condition") -> str:
    """Return what it is about; a connection with our id, as the remedy is for one of them."""
    number = condition.connection_id
    return condition.subject if number is None else f"{condition.subject} (id {number})"


def _print_finding(
    severity: str,
    subject: str,
    sentence: str,
    remedy: str,
    anchor: str,
    *,
    next_move: str | None = None,
) -> None:
    print_line(f"{severity:<10}{subject}: {sentence}")
    print_line(f"          do: {remedy}")
    if next_move:
        print_line(f"          now: {next_move}")
    print_line(f"          {anchor}")
