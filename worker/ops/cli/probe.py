"""The command ``probe``: checks whether a tenant answers as we assume."""

import sys
from collections.abc import Sequence
from dataclasses import asdict
from importlib.metadata import version
from typing import Final

import click

from worker.core.log import configure_logging
from worker.core.settings import MICROSOFT_PROVIDERS, Settings
from worker.nango.client import ConnectionRef
from worker.ops.cli.exit_codes import EXIT_FAILED, EXIT_PARTIAL, EXIT_USAGE
from worker.ops.cli.output import (
    json_option,
    open_checked_database,
    print_json,
    print_line,
    print_table,
)
from worker.ops.cli.probe_scope import build_probe_scope
from worker.probe.answers import MAX_CALLS, MAX_SINGLE_CALLS, ProbeAnswers, ProbeCall
from worker.probe.cross_tenant import MAX_CROSS_TENANT_CALLS, send_across_tenants
from worker.probe.findings import Finding
from worker.probe.report import (
    CallSummary,
    ProbeOutcome,
    decide_outcome,
    render_summary,
    run_checks,
    summarize_calls,
)
from worker.probe.requests import run_probe as ask
from worker.store.state.connections import Connection, find_connection
from worker.wiring import open_nango

EXIT_BY_OUTCOME: Final = {
    ProbeOutcome.YES: 0,
    ProbeOutcome.NO: EXIT_FAILED,
    ProbeOutcome.UNKNOWN: EXIT_PARTIAL,
    ProbeOutcome.SETTINGS: EXIT_USAGE,
}
SHARING_NOTE: Final = (
    "The report contains no name, id, link or message of the tenant: it can be shared."
)


@click.command(
    epilog=(
        "Exit codes: 0 it can be mirrored, perhaps in another way; 1 a required call is refused; "
        "2 usage or settings; 3 not everything could be checked."
    )
)
@click.argument("connection")
@click.option(
    "--other",
    metavar="CONNECTION",
    help="A connection of another tenant: check that it is refused the links of CONNECTION.",
)
@json_option
def probe(connection: str, other: str | None, as_json: bool) -> None:  # noqa: FBT001
    """Check whether the tenant of CONNECTION answers as Tenant Mirror assumes.

    Sends at most 16 calls, all of them reads, each once; a tenant that refuses $batch gets a few
    more. Nothing is written, neither to the mirror nor to the tenant, so it may run during a sync,
    and for a connection that is paused, broken or a duplicate.

    With --other, the next and delta links that were received are sent through a connection of
    another tenant, in at most 5 more calls: Graph has to refuse them.

    The report contains numbers and fixed texts, but no names, ids or links: it can be shared.

    \b
    Examples:
      tenant-mirror probe 3
      tenant-mirror probe entra/contoso --json > probe.json
      tenant-mirror probe 3 --other 5
    """  # noqa: D301 - click's mark of a paragraph that is not to be wrapped
    with open_checked_database() as (settings, database):
        with database.open_transaction() as db:
            known = find_connection(db, connection)
            another = find_connection(db, other) if other is not None else None
        answers = _run_probe(settings, known, another)
    findings = run_checks(answers)
    result = decide_outcome(answers, findings)
    if as_json:
        print_json(_build_document(known, answers, findings, result))
    else:
        _print_report(known, answers, findings, result)
    raise SystemExit(EXIT_BY_OUTCOME[result])


def _run_probe(
    settings: Settings, connection: Connection, another: Connection | None
) -> ProbeAnswers:
    configure_logging("WARNING", "console")
    nango = open_nango(settings)
    try:
        address, scope = _build_address(connection), build_probe_scope(settings, connection)
        answers = ask(nango, address, connection.tenant_id, _print_progress, scope)
        if another is not None and answers.stop_reason is None:
            send_across_tenants(nango, _build_address(another), answers, _print_progress)
        return answers
    finally:
        nango.close()


def _build_address(connection: Connection) -> ConnectionRef:
    return ConnectionRef(connection.nango_connection_id, connection.provider_config_key)


def _print_progress(asked: str, number: int) -> None:
    """Print progress for people."""
    if sys.stderr.isatty():
        print_line(f"asking {asked} ({number} of at most {_get_call_limit(asked)})", err=True)


def _get_call_limit(asked: str) -> int:
    if asked in (ProbeCall.OTHER_ORGANIZATION, ProbeCall.CROSS_TENANT_LINK):
        return MAX_CROSS_TENANT_CALLS
    return MAX_CALLS if asked in tuple(ProbeCall) else MAX_SINGLE_CALLS


def _build_document(
    connection: Connection, answers: ProbeAnswers, findings: Sequence[Finding], result: ProbeOutcome
) -> dict[str, object]:
    return {
        "connection": connection.id,
        "provider": _render_provider(connection),
        "release": version("tenant-mirror"),
        "can_be_mirrored": {ProbeOutcome.YES: True, ProbeOutcome.NO: False}.get(result),
        "summary": render_summary(result, findings),
        "stopped": answers.stop_reason,
        "findings": [asdict(finding) for finding in findings],
        "calls": [asdict(call) for call in summarize_calls(answers)],
    }


def _render_provider(connection: Connection) -> str:
    """Return Nango's provider name if it is a standard one."""
    return connection.provider if connection.provider in MICROSOFT_PROVIDERS else "another"


def _print_report(
    connection: Connection, answers: ProbeAnswers, findings: Sequence[Finding], result: ProbeOutcome
) -> None:
    print_line(f"connection {connection.id}, provider {_render_provider(connection)}")
    print_line()
    print_table(
        "",
        ["assumption", "verdict", "seen", "what Tenant Mirror does"],
        [[f.name, f.verdict.value, f.seen, f.does] for f in findings],
        prose=("assumption", "seen", "what Tenant Mirror does"),
    )
    print_line()
    print_table(
        "calls",
        ["call", "status", "code", "ms", "bytes", "rows", "bytes per row", "link"],
        [_render_call(call) for call in summarize_calls(answers)],
    )
    if answers.stop_reason is not None:
        print_line()
        print_line(f"stopped: {answers.stop_reason}")
    print_line()
    print_line(f"connection {connection.id}: {render_summary(result, findings)}")
    print_line(SHARING_NOTE)


def _render_call(call: CallSummary) -> list[object]:
    return [None if value == "" else value for value in asdict(call).values()]
