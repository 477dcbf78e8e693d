"""The client of a running sandbox's control API."""

import json
from typing import Any

import click
import httpx

from sandbox.tenant.defaults import DEFAULT_PORT, KEY

URL_VARIABLE, KEY_VARIABLE = "TENANT_MIRROR_SANDBOX_URL", "TENANT_MIRROR_SANDBOX_KEY"

url_option = click.option(
    "--url",
    default=f"http://127.0.0.1:{DEFAULT_PORT}",
    show_default=True,
    envvar=URL_VARIABLE,
    help="URL of the running sandbox.",
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON for programs.")
key_option = click.option(
    "--key", default=KEY, envvar=KEY_VARIABLE, help="Its key, a version 4 UUID."
)


def print_json(value: object) -> None:
    click.echo(json.dumps(value, indent=2, ensure_ascii=False))


def call_control_api(method: str, url: str, key: str, path: str, content: Any = None) -> Any:
    """Call the control API. Raises ClickException with the sandbox's message."""
    try:
        response = httpx.request(
            method,
            f"{url.rstrip('/')}/sandbox/{path}",
            headers={"Authorization": f"Bearer {key}"},
            json=content,
            timeout=600,
        )
    except httpx.HTTPError as error:
        raise click.ClickException(
            f"No sandbox answers at {url}: {error}. Start one with 'tenant-mirror sandbox serve'; "
            "to control the customers of 'make run', source the file that it names (. "
            ".tenant-mirror/env)"
        ) from error
    if response.is_error:
        raise click.ClickException(
            f"The sandbox answered {response.status_code}: {_extract_message(response)}"
        )
    return response.json()


def _extract_message(response: httpx.Response) -> str:
    """Return the message of an error response, or its text."""
    try:
        return str(response.json()["error"]["message"])
    except (ValueError, LookupError, TypeError):
        return response.text
