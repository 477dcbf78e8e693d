"""How the command line speaks: tables for people, JSON for programs, sentences for troubles."""

import json
import os
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import click

from models.run import RunState
from worker.core.errors import Busy, Halt, Trouble, Unknown
from worker.core.settings import Settings, load_settings
from worker.ops.cli.table import drawn, terminal_width
from worker.ops.schema import check
from worker.store.engine import Database

if TYPE_CHECKING:
    from worker.sync.run import Kit

FAILED, USAGE, PARTIAL, BUSY = 1, 2, 3, 75

EXIT_OF = {
    RunState.SUCCEEDED: 0,
    RunState.PARTIAL: PARTIAL,
    RunState.HELD: PARTIAL,
    RunState.FAILED: FAILED,
    RunState.RUNNING: PARTIAL,
}

APPROVE_MISSING = (
    "Correct NANGO_SECRET_KEY, or retire them with 'tenant-mirror connections approve-missing'"
)

as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON for programs.")


def explain(trouble: Trouble) -> int:
    """Say what is wrong, on standard error; the exit code."""
    for line in str(trouble).splitlines():
        click.echo(f"tenant-mirror: {line}", err=True)
    if isinstance(trouble, Halt | Unknown):
        return USAGE
    return BUSY if isinstance(trouble, Busy) else FAILED


def leave_output() -> None:
    """What could not be written to standard output goes nowhere, so that the end is quiet."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)


@contextmanager
def opened(*, any_schema: bool = False) -> Iterator[tuple[Settings, Database]]:
    """The settings and the database. Raises Halt where its schema is not this release's."""
    settings = load_settings()
    if settings.database_url is None:
        raise Halt("DATABASE_URL is not set; it names the Postgres database of the mirror")
    database = Database(settings.database_url.get_secret_value())
    try:
        if not any_schema:
            check(database)
        yield settings, database
    finally:
        database.close()


def ready_kit() -> "Kit":
    """What a sync needs. Raises Halt where a setting is missing or the schema is another."""
    from worker.core.log import configure
    from worker.wiring import open_kit

    configure("WARNING", "console")
    kit = open_kit(load_settings())
    check(kit.database)
    return kit


def drift_line(drift: Mapping[str, Mapping[str, int]]) -> str:
    """What a full walk found that the deltas had missed."""
    counts = [
        f"{name} {number:,} {kind}"
        for name, kinds in drift.items()
        for kind, number in kinds.items()
        if number
    ]
    return ", ".join(counts) or "nothing"


def print_json(value: object) -> None:
    click.echo(json.dumps(value, indent=2, default=_plain, ensure_ascii=False))


def _plain(value: object) -> object:
    if isinstance(value, datetime):
        return value.isoformat()
    return float(value) if isinstance(value, Decimal) else str(value)


def print_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """A table; figures to the right."""
    if title:
        click.secho(title, italic=True)
    header, *body = drawn(columns, rows, terminal_width())
    for line in header:
        click.secho(line, bold=True)
    for lines in body:
        for line in lines:
            click.echo(line)


def age(seconds: Any) -> str:
    """How long ago, for people."""
    if seconds is None:
        return "never"
    value = float(seconds)
    for unit, size in (("d", 86_400), ("h", 3600), ("min", 60)):
        if value >= 2 * size:
            return f"{value / size:.0f} {unit}"
    return f"{max(0.0, value):.0f} s"


class ProgressLines:
    """Tells how far long work has come, on standard error, every other second."""

    def __init__(self, label: str, every: float = 2.0) -> None:
        self._label = label
        self._every = every
        self._last = time.monotonic()

    def __call__(self, resource: str, objects: int, what: str) -> None:
        """Without a resource it is a wait, of ``objects`` seconds: said at once."""
        now = time.monotonic()
        if not resource:
            self._last = now
            click.echo(f"{self._label}: {what}; goes on in {objects} s", err=True)
            return
        if now - self._last >= self._every:
            self._last = now
            click.echo(f"{self._label}: {what} {resource}, {objects:,} so far", err=True)


def outcome_line(label: str, state: str, tally: Any, calls: int, seconds: float) -> str:
    """One sentence about a finished sync."""
    changes = [
        f"{getattr(tally, kind):,} {kind}"
        for kind in ("created", "updated", "deleted", "restored")
        if getattr(tally, kind)
    ]
    told = ", ".join(changes) or "nothing changed"
    return f"{label}: {state}, {told}; {tally.objects:,} objects, {calls:,} calls, {seconds:.1f} s"
