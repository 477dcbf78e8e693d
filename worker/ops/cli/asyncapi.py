"""The command ``asyncapi``: describes the change events for their consumers."""

import click

from worker.core.settings import load_settings
from worker.ops.cli.output import print_json


@click.command()
@click.option("--prefix", help="Prefix of the event types, instead of TENANT_MIRROR_EVENT_PREFIX.")
def asyncapi(prefix: str | None) -> None:
    """Print an AsyncAPI 3 document of the change events, as JSON.

    It contains a JSON Schema for each event type. No server is contacted.
    """
    from worker.delivery.asyncapi import build_document

    settings = load_settings(event_prefix=prefix) if prefix else load_settings()
    print_json(build_document(settings.event_prefix))
