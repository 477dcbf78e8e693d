"""The command ``sinks set-url``: another address for a sink that keeps its position."""

from urllib.parse import urlsplit

import click

from models.audit import AuditAction
from models.sink import SinkStatus
from worker.operations.actor import get_host_actor
from worker.operations.audit import AuditedAction, open_audited_transaction
from worker.ops.cli.output import json_option, open_checked_database, print_json, print_line

_EXAMPLES = """\b
Examples:
  tenant-mirror sinks set-url crm https://crm.example.com/hooks/v2
  tenant-mirror sinks set-url search rediss://:secret@redis.example.com:6380/0
  tenant-mirror sinks set-url search --shared
"""


@click.command("set-url", epilog=_EXAMPLES)
@click.argument("name")
@click.argument("url", required=False)
@click.option("--shared", is_flag=True, help="Write the stream to the Redis of REDIS_URL.")
@click.option("--allow-http", is_flag=True, default=None, help="Allow delivery without encryption.")
@click.option(
    "--allow-private", is_flag=True, default=None, help="Allow delivery to private networks."
)
@json_option
def set_url(
    name: str,
    url: str | None,
    *,
    shared: bool,
    allow_http: bool | None,
    allow_private: bool | None,
    as_json: bool,
) -> None:
    """Give the sink NAME another URL; its position, filters and signing secrets stay.

    Waiting events are tried there at once. URL is that of the webhook, with its query if it has
    one, or of a Redis server.
    """
    from worker.delivery.store import admin

    if (url is None) != shared:
        raise click.UsageError("give either a URL or --shared")
    allowed = {"allow_http": allow_http, "allow_private": allow_private}
    given = {option: value for option, value in allowed.items() if value is not None}
    host = None if url is None else _find_host(url)
    with open_checked_database() as (settings, database):
        action = AuditedAction(
            get_host_actor(settings),
            AuditAction.SINKS_SET_URL,
            subject=name,
            parameters={"host": host, **given},
        )
        with open_audited_transaction(database, action) as db:
            status = admin.set_sink_url(db, name, url, given)
    if as_json:
        print_json({"name": name, "host": host, "status": status})
        return
    place = "the Redis of REDIS_URL" if url is None else host
    print_line(
        f"sink '{name}' delivers to {place}; check it with 'tenant-mirror sinks test {name}'"
    )
    if status is not SinkStatus.ACTIVE:
        print_line(f"it is {status}; 'tenant-mirror sinks resume {name}' starts it", err=True)


def _find_host(url: str) -> str | None:
    """Return the part of a URL that may be shown; None if it has none."""
    try:
        return urlsplit(url).hostname
    except ValueError:
        return None
