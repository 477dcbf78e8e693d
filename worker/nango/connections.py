"""Reads Nango's list of connections.

The list is newest first, with offset paging and no total: rows may repeat or slip between pages, so
it is deduplicated, and a missing row proves nothing until the connection itself is requested. A row
that cannot be read counts as missing; the other rows are used.
https://nango.dev/docs/reference/api/connection/list
"""

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any
from urllib.parse import quote, urlencode

import msgspec

from worker.core.errors import ConfigurationError, ConnectionBroken, MalformedResponse
from worker.nango.client import ConnectionRef, NangoClient
from worker.nango.response import JSON_ERRORS, ApiResponse

PAGE_SIZES = (2000, 1000, 0)
"""Older servers cap ``limit`` at 1000, still older ones do not support it (0: not sent)."""

MAX_PAGES = 1000
MAX_NAME_LENGTH = 1000
"""Most characters of an id that can be stored and indexed; Nango's own have at most 255."""


class ListedConnection(msgspec.Struct, frozen=True):
    """A row of Nango's list; unused fields are ignored."""

    id: int
    connection_id: str
    provider_config_key: str
    provider: str = ""
    metadata: dict[str, Any] | None = None
    is_failing: bool = False
    """Whether Nango's last attempt to refresh the token failed: a hint, no proof."""

    @property
    def ref(self) -> ConnectionRef:
        return ConnectionRef(self.connection_id, self.provider_config_key)


@dataclass
class ConnectionListing:
    """The result of reading the list: each connection once, and the number of unreadable rows."""

    rows: list[ListedConnection] = field(default_factory=list)
    unreadable: int = 0


class _Page(msgspec.Struct, frozen=True):
    connections: list[msgspec.Raw]


class _Row(msgspec.Struct, frozen=True):
    """The three required fields of a row; all others may be missing or malformed."""

    id: int
    connection_id: str
    provider_config_key: str
    provider: Any = None
    metadata: Any = None
    errors: Any = None


def list_connections(nango: NangoClient) -> ConnectionListing:
    """Return every connection of the environment, each once.

    Raises ConfigurationError if the key or the address is wrong, RetryLater if Nango does not
    answer, MalformedResponse if no row can be read.
    """
    for size in PAGE_SIZES:
        listing = _read_all(nango, size)
        if listing is not None:
            if listing.unreadable and not listing.rows:
                raise MalformedResponse(
                    "no row of Nango's list of connections can be read", after=60
                )
            return ConnectionListing(_keep_newest(listing.rows), listing.unreadable)
    raise ConfigurationError(
        "Nango refuses to list its connections; check NANGO_HOST and the key's scopes"
    )


def _read_all(nango: NangoClient, size: int) -> ConnectionListing | None:
    """Return the rows of all pages; None if the server rejects this page size.

    A server that ignores ``limit`` or ``page`` sends everything, or the same page for ever.
    """
    by_id: dict[int, ListedConnection] = {}
    unreadable = 0
    for page_no in range(MAX_PAGES):
        query = f"?{urlencode({'limit': size, 'page': page_no})}" if size else ""
        response = nango.get(f"/connections{query}")
        if response.status == 404:
            raise ConfigurationError(
                "NANGO_HOST does not respond like Nango (404 for /connections); check the address"
            )
        if response.status == 400:
            return None
        raw = _decode(response)
        rows = [row for row in map(_parse_row, raw) if row is not None]
        unreadable += len(raw) - len(rows)
        fresh = [row for row in rows if row.id not in by_id]
        by_id.update({row.id: row for row in fresh})
        if not fresh or len(raw) != size:
            break
    return ConnectionListing(list(by_id.values()), unreadable)


def _keep_newest(rows: list[ListedConnection]) -> list[ListedConnection]:
    """Keep one row a connection: one that is created again while we read is listed twice."""
    newest: dict[ConnectionRef, ListedConnection] = {}
    for row in rows:
        if row.ref not in newest or newest[row.ref].id < row.id:
            newest[row.ref] = row
    return list(newest.values())


def _decode(response: ApiResponse) -> list[msgspec.Raw]:
    try:
        return msgspec.json.decode(response.body, type=_Page).connections
    except JSON_ERRORS as error:
        raise MalformedResponse(
            f"Nango's list of connections cannot be read ({error})", after=60
        ) from None


def _parse_row(raw: msgspec.Raw) -> ListedConnection | None:
    try:
        row = msgspec.json.decode(raw, type=_Row)
    except JSON_ERRORS:
        return None
    if not (_is_storable(row.connection_id) and _is_storable(row.provider_config_key)):
        return None
    return ListedConnection(
        row.id,
        row.connection_id,
        row.provider_config_key,
        row.provider if isinstance(row.provider, str) and _is_storable(row.provider) else "",
        row.metadata if isinstance(row.metadata, dict) else None,
        _is_failing(row.errors),
    )


def _is_storable(name: str) -> bool:
    """Whether Postgres can store and index a name: without NUL, and not kilobytes long."""
    return 0 < len(name) <= MAX_NAME_LENGTH and "\x00" not in name


def _is_failing(errors: Any) -> bool:
    if not isinstance(errors, list):
        return False
    return any(isinstance(error, dict) and error.get("type") == "auth" for error in errors)


class ConnectionPresence(StrEnum):
    """Nango's answer to a request for one connection."""

    PRESENT = "there"
    GONE = "gone"
    NOT_QUERYABLE = "not askable"
    """Nango's import accepts ids that the rest of its API rejects before any lookup."""


def is_gone(nango: NangoClient, address: ConnectionRef) -> bool:
    """Whether Nango itself reports that the connection no longer exists.

    Raises the errors of ``check_presence``.
    """
    return check_presence(nango, address) is ConnectionPresence.GONE


def check_presence(nango: NangoClient, address: ConnectionRef) -> ConnectionPresence:
    """Request one connection by its id; only Nango's own 404 proves that it is gone.

    Raises ConfigurationError, RetryLater.
    """
    try:
        response = nango.get(_build_path(address))
    except ConnectionBroken:
        return (
            ConnectionPresence.PRESENT
        )  # Nango could not refresh its token, so the connection exists
    document = response.parse_json()
    error = document.get("error") if isinstance(document, dict) else None
    code = error.get("code") if isinstance(error, dict) else None
    match response.status, code:
        case (404, "not_found" | "unknown_connection") | (400, "unknown_provider_config"):
            return ConnectionPresence.GONE
        case 400, "invalid_uri_params":
            return ConnectionPresence.NOT_QUERYABLE
        case _:
            return ConnectionPresence.PRESENT


def renew_token(nango: NangoClient, address: ConnectionRef) -> bool:
    """Have Nango fetch a new token for a connection; return whether Nango reports one.

    A key without the scope ``environment:connections:read_credentials`` renews nothing, though
    Nango answers 200. With the scope the response holds the token, which is dropped unread.
    Raises ConnectionBroken (it cannot be renewed), ConfigurationError, RetryLater.
    """
    return nango.get(_build_path(address, force_refresh="true")).is_success


def _build_path(address: ConnectionRef, **options: str) -> str:
    query = urlencode({"provider_config_key": address.provider_config_key, **options})
    return f"/connections/{quote(address.connection_id, safe='')}?{query}"
