"""The command that asks one tenant whether it answers as we assume."""

import sys
from collections.abc import Sequence
from dataclasses import asdict
from importlib.metadata import version
from typing import Final

import click

from worker.core.log import configure
from worker.core.settings import MICROSOFT_PROVIDERS, Settings
from worker.graph.probe.answers import LIMIT, Answers, Asked
from worker.graph.probe.asking import probe as ask
from worker.graph.probe.crossed import CROSSED_LIMIT, cross
from worker.graph.probe.findings import Finding
from worker.graph.probe.report import Call, Outcome, calls, judged, outcome, summary
from worker.nango.client import Address
from worker.ops.cli.output import FAILED, PARTIAL, USAGE, as_json, opened, print_json, print_table
from worker.store.connections import Known, find
from worker.wiring import open_nango

EXIT_OF: Final = {
    Outcome.YES: 0,
    Outcome.NO: FAILED,
    Outcome.UNKNOWN: PARTIAL,
    Outcome.SETTINGS: USAGE,
}
SHARED: Final = "No name, id, link or message of the tenant is in this report: it can be shared."


@click.command(
    epilog=(
        "Exit codes: 0 it can be mirrored, perhaps by other ways; 1 something that is needed is "
        "refused; 2 usage or settings; 3 not everything could be found out."
    )
)
@click.argument("connection")
@click.option(
    "--other",
    metavar="CONNECTION",
    help="A connection of another tenant: are the links of CONNECTION refused to it?",
)
@as_json
def probe(connection: str, other: str | None, as_json: bool) -> None:  # noqa: FBT001
    r"""Ask the tenant of CONNECTION whether it answers as Tenant Mirror assumes.

    At most 15 calls, all of them reads, each sent once. Nothing is written, here or there, so it
    may run beside a sync, and for a connection that is paused, broken or a duplicate.

    With --other, the next and delta links that came are sent through a connection of another
    tenant, in at most 5 more calls: Graph has to refuse them.

    The report has numbers and words of ours only, no names, ids or links: it can be shared.

    \b
    Examples:
      tenant-mirror probe 3
      tenant-mirror probe entra/contoso --json > probe.json
      tenant-mirror probe 3 --other 5
    """
    with opened() as (settings, database):
        with database.begin() as db:
            known = find(db, connection)
            another = find(db, other) if other is not None else None
        answers = _asked(settings, known, another)
    findings = judged(answers)
    result = outcome(answers, findings)
    if as_json:
        print_json(_document(known, answers, findings, result))
    else:
        _show(known, answers, findings, result)
    raise SystemExit(EXIT_OF[result])


def _asked(settings: Settings, known: Known, another: Known | None) -> Answers:
    configure("WARNING", "console")
    nango = open_nango(settings)
    try:
        answers = ask(nango, _address(known), known.tenant_id, _tell)
        if another is not None and answers.stop is None:
            cross(nango, _address(another), answers, _tell)
        return answers
    finally:
        nango.close()


def _address(known: Known) -> Address:
    return Address(known.nango_connection_id, known.provider_config_key)


def _tell(asked: Asked, number: int) -> None:
    """Progress, for a person who watches."""
    if sys.stderr.isatty():
        click.echo(f"asking {asked} ({number} of at most {_most(asked)})", err=True)


def _most(asked: Asked) -> int:
    return CROSSED_LIMIT if asked in (Asked.OTHER_ORGANIZATION, Asked.CROSSED) else LIMIT


def _document(
    known: Known, answers: Answers, findings: Sequence[Finding], result: Outcome
) -> dict[str, object]:
    return {
        "connection": known.id,
        "provider": _provider(known),
        "release": version("tenant-mirror"),
        "can_be_mirrored": {Outcome.YES: True, Outcome.NO: False}.get(result),
        "summary": summary(result, findings),
        "stopped": answers.stop,
        "findings": [asdict(finding) for finding in findings],
        "calls": [asdict(call) for call in calls(answers)],
    }


def _provider(known: Known) -> str:
    """Nango's name of it, where it is one that everybody has."""
    return known.provider if known.provider in MICROSOFT_PROVIDERS else "another"


def _show(known: Known, answers: Answers, findings: Sequence[Finding], result: Outcome) -> None:
    click.echo(f"connection {known.id}, provider {_provider(known)}\n")
    print_table(
        "",
        ["assumption", "verdict", "seen", "what Tenant Mirror does"],
        [[f.name, f.verdict.value, f.seen, f.does] for f in findings],
    )
    click.echo()
    print_table(
        "calls",
        ["asked", "status", "code", "ms", "bytes", "rows", "bytes a row", "goes on"],
        [_cells(call) for call in calls(answers)],
    )
    if answers.stop is not None:
        click.echo(f"\nstopped: {answers.stop}")
    click.echo(f"\nconnection {known.id}: {summary(result, findings)}\n{SHARED}")


def _cells(call: Call) -> list[object]:
    return [None if value == "" else value for value in asdict(call).values()]
