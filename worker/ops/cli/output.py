"""Output of the command line: tables for people, JSON for programs, sentences for errors."""

import json
import os
import sys
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import click

from worker.core.errors import (
    ConfigurationError,
    InvalidInput,
    LeaseHeld,
    MirrorError,
    NotFound,
    SinkMisconfigured,
)
from worker.core.printable import escape_json_line, to_one_line
from worker.core.settings import Settings, load_settings
from worker.core.time_text import render_count
from worker.ops.cli.exit_codes import EXIT_BUSY, EXIT_FAILED, EXIT_USAGE
from worker.ops.cli.table import render_table
from worker.ops.cli.table_layout import detect_width
from worker.store.engine import Database
from worker.store.schema_version import check_schema

if TYPE_CHECKING:
    from worker.sync.runtime import Runtime

APPROVE_MISSING_HINT = (
    "Correct NANGO_SECRET_KEY, or retire them with 'tenant-mirror connections approve-missing'"
)

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON for programs.")
yes_option = click.option("--yes", is_flag=True, help="Do not ask for confirmation; for scripts.")


def confirm(question: str, consequence: str) -> None:
    """Ask a question. Raises UsageError, with the consequence, if stdin is not a terminal."""
    if not sys.stdin.isatty():
        raise click.UsageError(f"{consequence}; pass --yes to confirm without a terminal")
    click.confirm(to_one_line(question), abort=True, err=True)


def print_error(error: MirrorError) -> int:
    """Print an error to stderr and return the exit code."""
    for line in str(error).splitlines():
        print_line(f"tenant-mirror: {line}", err=True)
    if isinstance(error, ConfigurationError | InvalidInput | NotFound | SinkMisconfigured):
        return EXIT_USAGE
    return EXIT_BUSY if isinstance(error, LeaseHeld) else EXIT_FAILED


def discard_stdout() -> None:
    """Discard what could not be written to stdout, so that the process ends without a message."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)


@contextmanager
def open_checked_database(*, any_schema: bool = False) -> Iterator[tuple[Settings, Database]]:
    """Open the settings and the database.

    Raises ConfigurationError if the schema is not this release's.
    """
    from worker.core.log import configure_logging_lazily

    settings = load_settings()
    configure_logging_lazily("WARNING", "console")
    if settings.database_url is None:
        raise ConfigurationError(
            "DATABASE_URL is not set; it names the Postgres database of the mirror"
        )
    database = Database(settings.database_url.get_secret_value())
    try:
        if not any_schema:
            check_schema(database)
        yield settings, database
    finally:
        database.close()


def open_checked_runtime() -> "Runtime":
    """Return the runtime of a sync.

    Raises ConfigurationError if a setting is missing or the schema is not this release's.
    """
    from worker.core.log import configure_logging
    from worker.wiring import open_runtime

    configure_logging("WARNING", "console")
    runtime = open_runtime(load_settings())
    check_schema(runtime.database)
    return runtime


def render_drift(drift: Mapping[str, Mapping[str, int]]) -> str:
    """Return what a full walk found that the deltas had missed."""
    counts = [
        f"{name} {number:,} {kind}"
        for name, kinds in drift.items()
        for kind, number in kinds.items()
        if number
    ]
    return ", ".join(counts) or "nothing"


def print_line(text: str = "", *, err: bool = False) -> None:
    """Print one line, without characters of a name that break the line or control the terminal."""
    click.echo(to_one_line(text), err=err)


def print_json(value: object) -> None:
    shown = json.dumps(value, indent=2, default=_to_json_value, ensure_ascii=False)
    click.echo("\n".join(map(escape_json_line, shown.split("\n"))))


def _to_json_value(value: object) -> object:
    if isinstance(value, datetime):
        return value.isoformat()
    return float(value) if isinstance(value, Decimal) else str(value)


def print_table(
    title: str,
    columns: Sequence[str],
    rows: Sequence[Sequence[object]],
    *,
    prose: Collection[str] = (),
) -> None:
    """Print a table; ``prose`` names the columns that may be folded between words."""
    if title:
        click.secho(to_one_line(title), italic=True)
    header, body = render_table(columns, rows, detect_width(sys.stdout), prose)
    for line in header:
        click.secho(line, bold=True)
    for line in body:
        click.echo(line)


def render_time(moment: datetime | None) -> str | None:
    """Return a time of the database, which is in UTC, to the second."""
    return None if moment is None else f"{moment:%Y-%m-%d %H:%M:%S}"


def render_value(value: object) -> str:
    """Return one line of text, with the zone of a time."""
    return f"{render_time(value)} UTC" if isinstance(value, datetime) else to_one_line(str(value))


def render_changes(counts: Mapping[str, int]) -> str:
    """Return what a run changed: "2 created, 1 deleted"; empty if it changed nothing."""
    kinds = ("created", "updated", "deleted", "restored")
    return ", ".join(f"{counts[kind]:,} {kind}" for kind in kinds if counts[kind])


def render_outcome(label: str, state: str, tally: Any, calls: int, seconds: float) -> str:
    """Return a sentence about a finished sync."""
    changes = [
        f"{getattr(tally, kind):,} {kind}"
        for kind in ("created", "updated", "deleted", "restored")
        if getattr(tally, kind)
    ]
    told = ", ".join(changes) or "nothing changed"
    sizes = f"{render_count(tally.objects, 'object')}, {render_count(calls, 'call')}"
    return f"{label}: {state}, {told}; {sizes}, {seconds:.1f} s"
