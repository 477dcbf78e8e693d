"""The command ``export``: writes the views of one customer into files."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import click

from worker.ops.cli.output import (
    json_option,
    open_checked_database,
    print_json,
    print_line,
    print_table,
)
from worker.ops.cli.progress import Progress

_EXAMPLES = """\b
Examples:
  tenant-mirror export contoso --to contoso-2026-11
  tenant-mirror export 3 --to /srv/exports/3 --format parquet
  tenant-mirror export 3 --to members --view effective_group_members --view users
"""

_ENDING_SIGNALS: Final = (signal.SIGTERM, signal.SIGHUP)


@contextmanager
def _end_as_by_ctrl_c() -> Iterator[None]:
    """Let these signals raise KeyboardInterrupt, so that no half-written file stays behind."""
    before = {number: signal.getsignal(number) for number in _ENDING_SIGNALS}
    try:
        for number, handler in before.items():
            if handler is not signal.SIG_IGN:  # as by nohup
                signal.signal(number, signal.default_int_handler)
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@click.command(epilog=_EXAMPLES)
@click.argument("connection")
@click.option(
    "--to",
    "folder",
    required=True,
    type=click.Path(path_type=Path),
    help="The folder to make; it appears when all of it is written.",
)
@click.option(
    "--format",
    "form",
    type=click.Choice(["csv", "parquet"]),
    default="csv",
    show_default=True,
    help="Parquet needs the extra 'export': pip install 'tenant-mirror[export]'.",
)
@click.option(
    "--view", "views", multiple=True, metavar="NAME", help="Only this view; may be repeated."
)
@json_option
def export(
    connection: str, folder: Path, form: str, views: tuple[str, ...], *, as_json: bool
) -> None:
    """Write the views of schema analytics of one CONNECTION into files, as of one moment.

    There is a file for each view, and manifest.json with the moment, the rows, the resources of
    which not all was read, and the type and meaning of each column. In CSV, booleans are t and f,
    lists are JSON arrays, an empty field is null, and an empty text is quoted. The views
    effective_group_members and changes can be very large, so they are written only if they are
    named.

    It reads as the service does: DATABASE_URL is the service's, not that of a reader. The files
    have personal data, and only you can read them. A person who is erased later is still in them:
    delete them when they are no longer needed.
    """
    from worker.core.errors import StateConflict
    from worker.core.time_text import render_count
    from worker.ops.export.files import ExportFormat, ExportRequest, write_export
    from worker.store.state.connections import find_connection

    with _end_as_by_ctrl_c(), open_checked_database() as (_, database):
        with database.open_transaction() as db:
            found = find_connection(db, connection)
        if found.is_retired:
            raise StateConflict(f"connection {found.id} is retired: the views show nothing of it")
        request = ExportRequest(found.id, folder, ExportFormat(form), views)
        with Progress("export", is_silent=as_json) as progress, database.open_transaction() as db:
            done = write_export(
                db, request, lambda name, rows: progress.update(rows, f"rows of {name}")
            )
    if as_json:
        print_json(done.describe())
        return
    rows = [[one.view.name, f"{one.rows:,}", f"{one.bytes:,}"] for one in done.files]
    print_table("", ["view", "rows", "bytes"], rows)
    views_written = render_count(len(done.files), "view")
    print_line(f"{views_written} written to {folder}, as of {done.as_of.isoformat()}")
    for one in done.incomplete:
        print_line(f"incomplete: {one.resource}: {one.why}", err=True)
