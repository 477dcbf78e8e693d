"""The command ``workers``: who is alive, which queues are consumed, and what each worker holds."""

from collections.abc import Sequence
from typing import Any

import click

from models.queues import ALL_QUEUES
from worker.core.time_text import render_age
from worker.ops.cli.exit_codes import EXIT_PARTIAL
from worker.ops.cli.output import (
    json_option,
    open_checked_database,
    print_json,
    print_line,
    print_table,
)
from worker.ops.cli.status_lines import explain_no_worker
from worker.overview.rows import build_worker_row
from worker.store.service.workers import (
    HeldConnection,
    Worker,
    list_held_connections,
    list_unserved_queues,
    list_workers,
)


@click.command()
@click.option("--check", is_flag=True, help="Exit with 3 if a queue has no worker.")
@json_option
def workers(check: bool, as_json: bool) -> None:  # noqa: FBT001
    """Show which workers are alive, the queues they consume, and what each holds since when."""
    with open_checked_database() as (_, database), database.open_transaction() as db:
        found = list_workers(db)
        held = list_held_connections(db)
    idle = list_unserved_queues(found, ALL_QUEUES)
    if as_json:
        print_json({"workers": _build_rows(found, held), "unserved_queues": idle})
    else:
        _print_workers(found)
        _print_held(found, held)
        if idle:
            sentence = explain_no_worker(idle)
            print_line(sentence[0].upper() + sentence[1:])
    if check and idle:
        click.get_current_context().exit(EXIT_PARTIAL)


def _build_rows(found: Sequence[Worker], held: Sequence[HeldConnection]) -> list[dict[str, Any]]:
    return [
        build_worker_row(worker)
        | {"holds": [_build_held(one) for one in held if one.holder in worker.process_names]}
        for worker in found
    ]


def _build_held(one: HeldConnection) -> dict[str, Any]:
    return {
        "connection_id": one.id,
        "connection": one.label,
        "organization": one.display_name,
        "trigger": one.trigger,
        "since": one.since,
        "seconds": one.seconds,
    }


def _print_workers(found: Sequence[Worker]) -> None:
    if not found:
        print_line("no worker has reported in the last day")
        return
    print_table(
        "",
        ["worker", "state", "processes", "holds", "queues"],
        [
            [
                one.name,
                "alive" if one.is_alive else f"SILENT for {render_age(one.seen_seconds_ago)}",
                one.processes,
                len(one.holds),
                ", ".join(one.queues),
            ]
            for one in found
        ],
        prose=("queues",),
    )


def _print_held(found: Sequence[Worker], held: Sequence[HeldConnection]) -> None:
    """Print what is synced now, also by processes of no worker, such as a command."""
    if not held:
        return
    owners = {process: worker.name for worker in found for process in worker.process_names}
    print_line()
    print_table(
        "held now",
        ["id", "connection", "organization", "why", "for", "by"],
        [
            [
                str(one.id),
                one.label,
                one.display_name,
                one.trigger,
                None if one.seconds is None else render_age(one.seconds),
                owners.get(one.holder, one.holder),
            ]
            for one in held
        ],
        prose=("organization",),
    )
    print_line()
