"""The command that tells consumers that the database was restored or replaced."""

import sys

import click

from worker.core.log import configure_at_need
from worker.events.rewind import Rewound, rewind
from worker.ops.cli.output import as_json, opened, print_json
from worker.store.engine import Database
from worker.store.epochs import Epoch, look
from worker.store.sink_admin import sinks_overview

_EXAMPLES = """\b
After a restore, with beat, workers and relays stopped:
  tenant-mirror migrate
  tenant-mirror recovered
Then start them again.
"""


@click.command(epilog=_EXAMPLES)
@click.option("--yes", is_flag=True, help="Do not ask; for scripts.")
@click.option(
    "--unless-noticed",
    is_flag=True,
    help="Do nothing where a restore was noticed since the server was started.",
)
@as_json
def recovered(*, yes: bool, unless_noticed: bool, as_json: bool) -> None:
    """Say that the database was restored from a backup, or replaced by a standby.

    Begins another epoch of the change events: numbers that consumers have seen may be given again,
    to other events. Each connection gets an event connection.rewound, and each sink a snapshot of
    each connection, so that consumers can drop what the restored mirror does not know.

    A promoted standby, a restore to a point in time and a restored dump are noticed within seconds
    and need no command. A copied data directory or volume is not noticed. To say it twice is
    harmless: consumers get one more snapshot.
    """
    configure_at_need("WARNING", "console")
    with opened() as (_, database):
        with database.begin() as db:
            epoch, sinks = look(db), len(sinks_overview(db))
        if unless_noticed and _was_noticed(epoch):
            _tell_noticed(epoch, as_json=as_json)
            return
        if not yes:
            _ask(epoch, sinks)
        done = rewind(database)
        if as_json:
            print_json({"begun": True, **vars(done)})
        else:
            _tell(done, database)


def _was_noticed(epoch: Epoch) -> bool:
    """Whether an epoch began for a restore, and nothing can have been restored since."""
    return epoch.reason is not None and epoch.since_start and epoch.rewound is None


def _ask(epoch: Epoch, sinks: int) -> None:
    """Raises UsageError where there is nobody to ask."""
    if not sys.stdin.isatty():
        raise click.UsageError(
            "every sink gets a snapshot of every connection; say --yes where nobody can be asked"
        )
    since = f"{epoch.started_at:%Y-%m-%d %H:%M:%S} UTC"
    if _was_noticed(epoch):
        click.echo(f"a restore was noticed at {since}: {epoch.reason}", err=True)
    every = "every sink gets" if sinks != 1 else "the sink gets"
    what = f"{sinks:,} in all; " if sinks > 1 else ""
    click.confirm(
        f"The present epoch began at {since}. Begin another one ({what}{every} a snapshot of each "
        "connection)?",
        abort=True,
        err=True,
    )


def _tell_noticed(epoch: Epoch, *, as_json: bool) -> None:
    if as_json:
        print_json({"begun": False, "epoch": epoch.id, "reason": epoch.reason})
        return
    click.echo(
        f"nothing to do: epoch {epoch.id} began at {epoch.started_at:%Y-%m-%d %H:%M:%S} UTC, since "
        f"the server was started ({epoch.reason})"
    )


def _tell(done: Rewound, database: Database) -> None:
    click.echo(
        f"{database.place}: epoch {done.epoch} has begun ({done.reason}); the one before was "
        f"{done.previous_epoch}"
    )
    click.echo(
        f"{done.connections:,} connections got the event connection.rewound; {done.sinks:,} sinks "
        "get a snapshot of them as soon as 'tenant-mirror relay' runs"
    )
