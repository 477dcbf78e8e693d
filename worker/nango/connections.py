"""Nango's list of connections.

Newest first with offset paging and no total: rows may repeat or slip while one reads, so the
list is deduplicated, and an absence in it proves nothing until the connection itself is asked for.
https://nango.dev/docs/reference/api/connection/list
"""

from typing import Any
from urllib.parse import quote, urlencode

import msgspec

from worker.core.errors import Halt, Torn
from worker.nango.client import Address, NangoClient
from worker.nango.reply import UNREADABLE, Reply

PAGE_SIZES = (2000, 1000, 0)
"""Older servers cap ``limit`` at 1000, still older ones do not know it (0: do not send it)."""

MAX_PAGES = 1000


class AuthError(msgspec.Struct, frozen=True):
    type: str = ""


class Listed(msgspec.Struct, frozen=True):
    """A row of Nango's list; what is not ours is ignored."""

    id: int
    connection_id: str
    provider_config_key: str
    provider: str = ""
    metadata: dict[str, Any] | None = None
    errors: list[AuthError] = []

    @property
    def address(self) -> Address:
        return Address(self.connection_id, self.provider_config_key)


class _Page(msgspec.Struct, frozen=True):
    connections: list[Listed]


def list_connections(nango: NangoClient) -> list[Listed]:
    """Every connection of the environment, once each.

    Raises Halt where the key or the address is wrong, Later where Nango does not answer.
    """
    for size in PAGE_SIZES:
        found = _read_all(nango, size)
        if found is not None:
            return list(found.values())
    raise Halt("Nango refuses to list its connections; check NANGO_HOST and the key's scopes")


def _read_all(nango: NangoClient, size: int) -> dict[int, Listed] | None:
    found: dict[int, Listed] = {}
    for page_no in range(MAX_PAGES):
        query = f"?{urlencode({'limit': size, 'page': page_no})}" if size else ""
        reply = nango.ask(f"/connections{query}")
        if reply.status == 404:
            raise Halt("NANGO_HOST does not answer like Nango (404 for /connections)")
        if reply.status == 400:
            return None
        rows = _decode(reply)
        found.update({row.id: row for row in rows})
        if not size or len(rows) < size:
            break
    return found


def _decode(reply: Reply) -> list[Listed]:
    try:
        return msgspec.json.decode(reply.body, type=_Page).connections
    except UNREADABLE as fault:
        raise Torn(f"Nango's list of connections cannot be read ({fault})", after=60) from None


def is_gone(nango: NangoClient, address: Address) -> bool:
    """Whether Nango itself says that the connection is no longer there."""
    reply = nango.ask(
        f"/connections/{quote(address.connection_id, safe='')}"
        f"?{urlencode({'provider_config_key': address.provider_config_key})}"
    )
    document = reply.document()
    error = document.get("error") if isinstance(document, dict) else None
    code = error.get("code") if isinstance(error, dict) else None
    if reply.status == 404:
        return code in ("not_found", "unknown_connection")
    return reply.status == 400 and code == "unknown_provider_config"
