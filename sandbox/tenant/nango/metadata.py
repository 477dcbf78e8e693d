"""POST and PATCH /connections/metadata: replace or merge connections' metadata."""

import json
from collections.abc import Callable
from typing import Any

from sandbox.tenant.errors import NangoError
from sandbox.tenant.http import Request, Response, json_response
from sandbox.tenant.nango.connections import NangoConnection

Find = Callable[[str, str], NangoConnection | None]


def set_metadata(request: Request, find: Find) -> Response:
    """Set the metadata of connections; of none if one is unknown."""
    asked = _parse_body(request.body)
    given, key, metadata = (
        asked[name] for name in ("connection_id", "provider_config_key", "metadata")
    )
    names = given if isinstance(given, list) else [given]
    found = [_require_connection(find, name, key) for name in names]
    replaces = request.method == "POST"
    for connection in found:
        before = {} if replaces else connection.metadata or {}
        connection.metadata = before | metadata
    return json_response(asked, 201 if replaces else 200)


def _parse_body(body: bytes) -> dict[str, Any]:
    try:
        asked = json.loads(body)
    except ValueError:
        asked = None
    if not isinstance(asked, dict):
        asked = {}
    kinds = {"connection_id": (str, list), "provider_config_key": (str,), "metadata": (dict,)}
    errors = [
        {"code": "invalid_type", "message": "Invalid input", "path": [name]}
        for name, allowed in kinds.items()
        if not isinstance(asked.get(name), allowed)
    ]
    if errors:
        raise NangoError(400, "invalid_body", errors=errors)
    return {name: asked[name] for name in kinds}


def _require_connection(find: Find, name: str, key: str) -> NangoConnection:
    connection = find(name, key)
    if connection is None:
        raise NangoError(
            404,
            "unknown_connection",
            f"Connection with connection id {name} and provider config key {key} not found. Please "
            "make sure the connection exists in the Nango dashboard",
        )
    return connection
