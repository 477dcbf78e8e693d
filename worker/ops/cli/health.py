"""The command ``health``: a container's health check."""

import sys

import click

from worker.core.process import heartbeat


@click.command()
@click.argument("name", type=click.Choice(heartbeat.PROCESS_NAMES))
@click.option(
    "--within",
    type=click.FloatRange(min=0),
    default=60.0,
    show_default=True,
    metavar="SECONDS",
    help="How long ago it may have worked last.",
)
def health(name: str, within: float) -> None:
    """Say whether the process NAME of this host works: exit code 0, or 1 where it does not.

    Beat works while it sends ticks, a worker while its loop consumes messages, a relay while it
    looks after its sinks. Neither Redis nor Postgres is asked.
    """
    age = heartbeat.read_heartbeat_age(name)
    if age is None:
        click.echo(
            f"{name}: nothing at {heartbeat.build_heartbeat_path(name)} says that it runs", err=True
        )
        sys.exit(1)
    click.echo(f"{name}: worked {age:.0f} s ago", err=age > within)
    if age > within:
        sys.exit(1)
