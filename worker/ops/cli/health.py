"""The command ``health``: a container's health check."""

import json
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
    help="Longest time since the last sign of work.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON for programs.")
def health(name: str, within: float, *, as_json: bool) -> None:
    """Check whether the process NAME on this host works: exit code 0 if it does, else 1.

    Beat works while it sends ticks, a worker while its loop consumes messages, a relay while it
    serves its sinks. Neither Redis nor Postgres is contacted.
    """
    age = heartbeat.read_heartbeat_age(name)
    if as_json:
        is_working = age is not None and age <= within
        click.echo(json.dumps({"name": name, "works": is_working, "age_seconds": age}))
        sys.exit(not is_working)
    if age is None:
        click.echo(
            f"{name}: not running, there is no heartbeat at {heartbeat.build_heartbeat_path(name)}",
            err=True,
        )
        sys.exit(1)
    click.echo(f"{name}: last worked {age:.0f} s ago", err=age > within)
    if age > within:
        sys.exit(1)
