"""Checks Nango's API keys and their scopes."""

import re
from collections.abc import Set as AbstractSet

from sandbox.tenant.errors import NangoError

_UUID4 = re.compile(
    r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}", re.IGNORECASE
)
REQUIRED_SCOPES = {
    "connections": "environment:connections:list",
    "connection": "environment:connections:read",
    "metadata": "environment:connections:update",
    "proxy": "environment:proxy",
}
"""The scope that each kind of call requires."""
READ_CREDENTIALS = "environment:connections:read_credentials"


def check_key(header: str | None, keys: AbstractSet[str]) -> None:
    """Raise NangoError unless the header holds one of the keys."""
    if not header:
        code, what = "missing_auth_header", "The request is missing the Authorization header."
    elif not header.startswith("Bearer ") or " " in header.removeprefix("Bearer ").strip():
        code, what = "malformed_auth_header", "The Authorization header is malformed."
    elif not _UUID4.fullmatch(header.removeprefix("Bearer ").strip()):
        code, what = "invalid_secret_key_format", "The provided secret key is not a UUID v4."
    elif header.removeprefix("Bearer ").strip() not in keys:
        code = "unknown_account"
        what = "The provided authorization header does not match any account."
    else:
        return
    raise NangoError(401, code, f"Authentication failed. {what}", payload={})


def has_scope(scopes: AbstractSet[str] | None, scope: str) -> bool:
    """Whether a key with these scopes has `scope`; None has all."""
    if scopes is None or scope in scopes:
        return True
    parts = scope.split(":")
    return any(":".join((*parts[:n], "*")) in scopes for n in range(1, len(parts)))


def check_scope(scopes: AbstractSet[str] | None, kind: str) -> None:
    scope = REQUIRED_SCOPES.get(kind)
    if scope and not has_scope(scopes, scope):
        raise NangoError(403, "forbidden", f"Insufficient scope. Required: {scope}")
