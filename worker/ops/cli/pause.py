"""The commands ``pause`` and ``resume``."""

from typing import Any

import click

from models.operation import Action
from worker.ops.cli.bulk import (
    Selection,
    choose_connections,
    report_single,
    run_bulk,
    run_single,
    selection_options,
)
from worker.ops.cli.output import json_option, open_checked_database
from worker.ops.cli.since import parse_until
from worker.store.engine import load_server_time

_PAUSE_EXAMPLES = """\b
Examples:
  tenant-mirror pause contoso --reason "tenant migration" --until 2h
  tenant-mirror pause contoso --until 2026-12-01T06:00Z
  tenant-mirror pause --search fabrikam --dry-run
  tenant-mirror pause --condition throttled_by_graph --until 1h --yes --expect 12
"""
_RESUME_EXAMPLES = """\b
Examples:
  tenant-mirror resume contoso
  tenant-mirror resume --all --dry-run
  tenant-mirror resume --all --yes --expect 12
"""


@click.command(epilog=_PAUSE_EXAMPLES)
@selection_options
@click.option("--reason", help="Why, in one line; colleagues see it. No names of persons.")
@click.option(
    "--until",
    metavar="TIME|AGE",
    help="When it ends by itself: a time (2026-12-01T06:00Z) or from now on (30m, 2h, 7d).",
)
@json_option
def pause(*, reason: str | None, until: str | None, as_json: bool, **chosen: Any) -> None:
    """Pause the syncs of CONNECTION, or of all that match, until you resume them.

    A sync that runs ends after its current page, and nothing of it is lost. Change events that are
    stored are still delivered. The pause is apart from "enabled" in Nango's metadata, and no
    discovery ends it. A paused connection that is paused again gets the new reason and end.

    Connections in the mirror are chosen as they are now; those that match later are not paused.
    """
    from worker.operations.request import PauseParameters

    selection = Selection(**chosen)
    selection.check()
    with open_checked_database() as (settings, database):
        end = None
        if until is not None:
            with database.open_transaction() as db:
                end = parse_until(until, load_server_time(db))
        parameters = PauseParameters(reason, end)
        choice = choose_connections(settings, database, Action.PAUSE, selection)
        if selection.has_filter:
            run_bulk(
                settings,
                database,
                Action.PAUSE,
                parameters,
                selection=selection,
                choice=choice,
                as_json=as_json,
            )
            return
        (known,) = choice.connections
        outcome = run_single(settings, database, Action.PAUSE, parameters, known)
    report_single(known, outcome, as_json=as_json)


@click.command(epilog=_RESUME_EXAMPLES)
@selection_options
@json_option
def resume(*, as_json: bool, **chosen: Any) -> None:
    """End the pause of CONNECTION, or of all that match; it is due at once.

    A connection that is paused in Nango (its status is "paused") is not resumed here: set "enabled"
    in its metadata to true.
    """
    from worker.operations.request import ResumeParameters

    selection = Selection(**chosen)
    selection.check()
    with open_checked_database() as (settings, database):
        parameters = ResumeParameters()
        choice = choose_connections(settings, database, Action.RESUME, selection)
        if selection.has_filter:
            run_bulk(
                settings,
                database,
                Action.RESUME,
                parameters,
                selection=selection,
                choice=choice,
                as_json=as_json,
            )
            return
        (known,) = choice.connections
        outcome = run_single(settings, database, Action.RESUME, parameters, known)
    report_single(known, outcome, as_json=as_json)
