"""The command ``recovered``: tells consumers that the database was restored or replaced."""

import click

from models.audit import AuditAction
from worker.core.log import configure_logging_lazily
from worker.delivery.store.admin import list_sinks
from worker.delivery.store.rewind import RewindResult, rewind_history
from worker.events.epochs import Epoch, load_epoch
from worker.operations.actor import get_host_actor
from worker.operations.audit import AuditedAction, audit_work
from worker.ops.cli.output import (
    confirm,
    json_option,
    open_checked_database,
    print_json,
    print_line,
    yes_option,
)
from worker.store.engine import Database

_EXAMPLES = """\b
After a restore, with beat, workers and relays stopped:
  tenant-mirror migrate
  tenant-mirror recovered
Then start them again.
"""


@click.command(epilog=_EXAMPLES)
@yes_option
@click.option(
    "--unless-noticed",
    is_flag=True,
    help="Do nothing if a restore was detected since the server started.",
)
@json_option
def recovered(*, yes: bool, unless_noticed: bool, as_json: bool) -> None:
    """Record that the database was restored from a backup, or replaced by a standby.

    Starts a new epoch of the change events, as numbers that consumers have seen may be used again
    for other events. Each connection gets an event connection.rewound, and each sink a snapshot of
    each connection, so that consumers can drop what the restored mirror does not contain.

    A promoted standby, a restore to a point in time and a restored dump are detected within seconds
    and need no command. A copied data directory or volume is not detected. Running the command
    twice is harmless: consumers get one more snapshot.
    """
    configure_logging_lazily("WARNING", "console")
    with open_checked_database() as (settings, database):
        with database.open_transaction() as db:
            epoch, sinks = load_epoch(db), len(list_sinks(db))
        if unless_noticed and _is_restore_noticed(epoch):
            _print_noticed(epoch, as_json=as_json)
            return
        if not yes:
            _confirm_new_epoch(epoch, sinks)
        action = AuditedAction(get_host_actor(settings), AuditAction.RECOVERED)
        with audit_work(database, action):
            done = rewind_history(database)
            action.detail = f"epoch {done.epoch} started"
        if as_json:
            print_json({"begun": True, **vars(done)})
        else:
            _print_rewound(done, database)


def _is_restore_noticed(epoch: Epoch) -> bool:
    """Whether an epoch began because of a restore, and no other restore can have followed."""
    return (
        epoch.reason is not None and epoch.began_after_server_start and epoch.rewind_reason is None
    )


def _confirm_new_epoch(epoch: Epoch, sinks: int) -> None:
    """Ask for confirmation. Raises UsageError without a terminal."""
    since = f"{epoch.started_at:%Y-%m-%d %H:%M:%S} UTC"
    if _is_restore_noticed(epoch):
        print_line(f"a restore was detected at {since}: {epoch.reason}", err=True)
    every = "every sink gets" if sinks != 1 else "the sink gets"
    what = f"{sinks:,} in all; " if sinks > 1 else ""
    confirm(
        f"The current epoch began at {since}. Start a new one ({what}{every} a snapshot of each "
        "connection)?",
        "every sink gets a snapshot of every connection",
    )


def _print_noticed(epoch: Epoch, *, as_json: bool) -> None:
    if as_json:
        print_json({"begun": False, "epoch": epoch.id, "reason": epoch.reason})
        return
    print_line(
        f"nothing to do: epoch {epoch.id} began at {epoch.started_at:%Y-%m-%d %H:%M:%S} UTC, after "
        f"the server started ({epoch.reason})"
    )


def _print_rewound(done: RewindResult, database: Database) -> None:
    print_line(
        f"{database.server}: epoch {done.epoch} started ({done.reason}); the previous epoch was "
        f"{done.previous_epoch}"
    )
    print_line(
        f"{done.connections:,} connections got the event connection.rewound; {done.sinks:,} sinks "
        "get a snapshot of them as soon as 'tenant-mirror relay' runs"
    )
