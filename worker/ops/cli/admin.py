"""Commands about the installation: the schema and the settings."""

import click

from worker.core.settings import SETTINGS, load_settings
from worker.core.value import SecretStr
from worker.ops.cli.output import json_option, open_checked_database, print_json, print_table
from worker.store.migrating import MigrationLimits


@click.command()
@click.option("--to", "revision", default="head", metavar="REVISION", help="Another revision.")
@click.option(
    "--wait",
    default=MigrationLimits.concurrent_lock,
    show_default=True,
    type=click.FloatRange(min=0.1, max=86_400),
    metavar="SECONDS",
    help="How long to wait for other sessions where nobody waits behind.",
)
def migrate(revision: str, wait: float) -> None:
    """Bring the database to the schema of this release.

    Safe to run at any time, by several at once, and again: it takes an advisory lock, gives up
    rather than make others wait for long, and names the sessions that hold it up.
    """
    from worker.ops.migrate import migrate as run

    with open_checked_database(any_schema=True) as (_, database):
        before, after = run(database, revision, MigrationLimits(concurrent_lock=wait))
        if before == after:
            click.echo(f"{database.server} is at schema {after} already")
        else:
            click.echo(f"{database.server}: schema {before or 'none'} -> {after or 'none'}")


@click.command()
@json_option
def settings(as_json: bool) -> None:  # noqa: FBT001 - click passes options so
    """Every setting with its meaning, default and present value (secrets hidden).

    For each name X, the environment may hold X_FILE instead, the path of a file with the value.
    """
    present = load_settings()
    rows = []
    for key, setting in SETTINGS.items():
        rows.append(
            {
                "name": setting.name,
                "value": _render_value(getattr(present, key)),
                "default": _render_value(setting.default),
                "meaning": setting.description,
            }
        )
    if as_json:
        print_json(rows)
        return
    print_table("", ["setting", "value", "default", "meaning"], [list(r.values()) for r in rows])


def _render_value(value: object) -> str | None:
    if isinstance(value, SecretStr):
        return "(hidden)"
    if isinstance(value, tuple):
        return ", ".join(map(str, value)) or None
    return None if value is None else str(value)
