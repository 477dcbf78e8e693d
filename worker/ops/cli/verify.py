"""The command ``verify``: checks that replaying the change events reproduces the tables."""

import click

from worker.ops.cli.exit_codes import EXIT_FAILED
from worker.ops.cli.output import json_option, open_checked_database, print_json, print_line
from worker.ops.cli.progress import Progress
from worker.store.state.connections import find_connection


@click.command()
@click.argument("connection")
@json_option
def verify(connection: str, as_json: bool) -> None:  # noqa: FBT001
    """Check that the change events of CONNECTION reproduce its tables.

    Undoes the events backwards from the current rows, in one snapshot, and checks that each fits.
    """
    from worker.events.verify import verify as check

    with open_checked_database() as (_, database):
        with database.open_transaction() as db:
            known = find_connection(db, connection)
        with (
            Progress(known.title, is_silent=as_json) as progress,
            database.open_transaction() as db,
        ):

            def show(done: int, total: int, resource: str) -> None:
                progress.total = total
                progress.update(done, f"checking events of {resource.replace('_', ' ')}")

            found = check(db, known.id, show)
    if as_json:
        print_json({"connection": known.label, **vars(found)})
    else:
        back = "from the very first" if found.has_whole_history else f"back to {found.oldest_at:%F}"
        print_line(
            f"{known.title}: {found.rows:,} live rows and {found.events:,} events, {back}: "
            f"{'all fit' if not found.problem_count else f'{found.problem_count:,} do not fit'}"
            f"{f'; {found.erased:,} erased ones skipped' if found.erased else ''}"
        )
        for problem in found.problems:
            print_line(f"  {problem}")
        for name, why in found.unresolved.items():
            print_line(f"  not compared with Graph, {name}: {why}")
    raise SystemExit(EXIT_FAILED if found.problem_count else 0)
