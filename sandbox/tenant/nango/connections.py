"""Nango's connections API: GET /connections and GET /connections/{id}, with strict parameters."""

import re
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, unquote

from sandbox.tenant.directory.tenant import Tenant
from sandbox.tenant.errors import NangoError
from sandbox.tenant.nango.token_refresh import TokenRefresh

Metadata = dict[str, Any]

_LIST_PARAMS = frozenset(
    {"connectionId", "search", "integrationId", "endUserId", "endUserOrganizationId"}
    | {"limit", "page"}
)
_GET_PARAMS = frozenset({"provider_config_key", "force_refresh", "refresh_token"})
_MAX_LIMIT = 2000
_CONNECTION_ID = re.compile(r"""[a-zA-Z0-9,.;:=+~\[\]|@${}"'\\/_ -]{1,255}""")
_DEFAULT_LIMIT = 10_000


@dataclass(slots=True)
class NangoConnection:
    """A connection; `tenant` may be replaced, as when a customer authorises another one."""

    id: int
    connection_id: str
    provider_config_key: str
    provider: str
    tenant: Tenant
    created: str
    metadata: Metadata | None = None
    errors: list[dict[str, str]] = field(default_factory=list)
    tags: dict[str, str] = field(default_factory=dict)
    refused_resources: set[str] = field(default_factory=set)
    """Resources that Graph refuses this connection."""
    refresh: TokenRefresh = field(default_factory=TokenRefresh)
    """The refresh state of its token."""

    @property
    def refresh_fails(self) -> bool:
        return self.refresh.fails

    @refresh_fails.setter
    def refresh_fails(self, fails: bool) -> None:
        self.refresh.fails = fails

    def to_row(self) -> dict[str, Any]:
        return {
            "id": self.id,
            "connection_id": self.connection_id,
            "provider_config_key": self.provider_config_key,
            "provider": self.provider,
            "errors": self.errors + self.refresh.errors,
            "end_user": None,
            "tags": self.tags,
            "metadata": self.metadata,
        }


def is_valid_connection_id(name: str) -> bool:
    """Whether Nango's API accepts this connection id; its import accepts any string."""
    return _CONNECTION_ID.fullmatch(name) is not None


def _build_invalid_query(name: str, code: str, message: str) -> NangoError:
    error = {"code": code, "message": message, "path": [name] if name else []}
    return NangoError(400, "invalid_query_params", errors=[error])


def _parse_params(query: str, allowed: frozenset[str]) -> dict[str, str]:
    params = dict(parse_qsl(query, keep_blank_values=True))
    for name in params:
        if name not in allowed and not (name.startswith("tags[") and "limit" in allowed):
            raise _build_invalid_query("", "unrecognized_keys", f'Unrecognized key: "{name}"')
    return params


def _parse_number(params: dict[str, str], name: str, least: int, most: int, default: int) -> int:
    text = params.get(name)
    if text is None:
        return default
    if not text.isdigit():
        raise _build_invalid_query(
            name, "invalid_type", "Invalid input: expected number, received NaN"
        )
    if not least <= int(text) <= most:
        raise _build_invalid_query(
            name, "too_big", f"Too big or too small: expected {least} to {most}"
        )
    return int(text)


def _matches(connection: NangoConnection, params: dict[str, str]) -> bool:
    wanted_id, search = params.get("connectionId"), params.get("search", "")
    integrations = params.get("integrationId")
    return (
        (wanted_id is None or connection.connection_id == wanted_id)
        and search.lower() in connection.connection_id.lower()
        and (integrations is None or connection.provider_config_key in integrations.split(","))
        and all(
            connection.tags.get(name[5:-1]) == value
            for name, value in params.items()
            if name.startswith("tags[")
        )
    )


def list_connections(connections: list[NangoConnection], query: str) -> dict[str, Any]:
    """Return a page's rows, newest first; without a limit silently truncated, as by Nango."""
    params = _parse_params(query, _LIST_PARAMS)
    limit = _parse_number(params, "limit", 1, _MAX_LIMIT, _DEFAULT_LIMIT)
    start = _parse_number(params, "page", 0, 10**9, 0) * limit
    ordered = sorted(connections, key=lambda c: (c.created[:19], c.id), reverse=True)
    ordered = [c for c in ordered if _matches(c, params)][start : start + limit]
    return {"connections": [c.to_row() | {"created": c.created} for c in ordered]}


def get_connection(
    connections: list[NangoConnection],
    integrations: dict[str, str],
    path: str,
    query: str,
    *,
    with_credentials: bool,
) -> dict[str, Any]:
    """Return one connection; credentials only for a key whose scope may read them."""
    params = _parse_params(query, _GET_PARAMS)
    if not is_valid_connection_id(unquote(path)):
        message = "Invalid string: must match pattern"
        errors = [{"code": "invalid_format", "message": message, "path": ["connectionId"]}]
        raise NangoError(400, "invalid_uri_params", errors=errors)
    key = params.get("provider_config_key")
    if key is None:
        message = "Invalid input: expected string, received undefined"
        raise _build_invalid_query("provider_config_key", "invalid_type", message)
    if key not in integrations:
        raise NangoError(400, "unknown_provider_config", "Provider does not exists")
    name = unquote(path)
    for connection in connections:
        if connection.connection_id == name and connection.provider_config_key == key:
            created = connection.created.replace("+00:00", "")[:19] + ".000+00:00"
            row = connection.to_row() | {
                "connection_config": {"tenantId": connection.tenant.tenant_id},
                "webhook_url_override": None,
                "created_at": created,
                "updated_at": created,
                "last_fetched_at": created,
                "credentials": {},
            }
            if with_credentials:
                connection.refresh.add_credentials(row, force=params.get("force_refresh") == "true")
            return row
    raise NangoError(404, "not_found", "Failed to find connection")
