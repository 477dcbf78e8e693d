"""Next and delta links of Graph: untrusted input that is checked, then used byte for byte.

Paging links are opaque (https://learn.microsoft.com/graph/paging). Following one to a foreign
host would send a customer's token there, so host, scheme and path are checked first; the query
is never parsed, because decoding and encoding it again breaks tokens.
"""

import re
from typing import Final
from urllib.parse import urlsplit

from worker.core.errors import MalformedResponse

HOSTS: Final = frozenset(
    {
        "graph.microsoft.com",
        "graph.microsoft.us",
        "dod-graph.microsoft.us",
        "microsoftgraph.chinacloudapi.cn",
    }
)
VERSION: Final = "/v1.0"
MAX_LINK_LENGTH: Final = 15_000
"""Nango answers 431 to request heads of about 16 KB."""

_PRINTABLE = re.compile(r"[\x21-\x7e]+")
_NEXT_LINK: Final = b'"@odata.nextLink"'
_LINK = re.compile(rb'\s*:\s*"([^"]*)"')
_DIRECTORY = re.compile(rf"{VERSION}/(users|groups)(/|$)", re.IGNORECASE)
_TOKEN_PARAMETERS: Final = frozenset(
    f"{sign}{name}" for sign in ("$", "%24") for name in ("skiptoken", "deltatoken")
)
_DOT_SEGMENT = re.compile(r"(^|/)(\.|%2e){1,2}(/|$)", re.IGNORECASE)


def path_from_link(link: str) -> str:
    """Return the path and query to send to the proxy for a next or delta link.

    Raises MalformedResponse if the link does not point to Graph's v1.0.
    """
    if len(link) > MAX_LINK_LENGTH or not _PRINTABLE.fullmatch(link) or "\\" in link:
        raise MalformedResponse("Graph sent a link that cannot be used in a request", after=3600)
    try:
        parts = urlsplit(link)
        port = parts.port
    except ValueError:
        raise MalformedResponse("Graph sent a link that is not a URL", after=3600) from None
    foreign = (
        parts.scheme != "https"
        or parts.hostname not in HOSTS
        or port not in (None, 443)
        or "@" in parts.netloc
    )
    if foreign:
        raise MalformedResponse(
            "a next link points to another host than Graph; it was not followed", after=3600
        )
    if "#" in link or not parts.path.startswith(f"{VERSION}/") or _DOT_SEGMENT.search(parts.path):
        raise MalformedResponse("a next link leaves Graph's v1.0; it was not followed", after=3600)
    start = link.index(parts.netloc) + len(parts.netloc)
    return link[start:]


def is_tenant_bound(target: str) -> bool:
    """Whether a link's token is bound to its tenant, so that it may be sent alone.

    Only tokens of the directory's lists and deltas are. SharePoint's contain a position that is
    valid in other tenants, too, and the paging tokens of roles are not documented.
    """
    path, _, query = target.partition("?")
    return _DIRECTORY.match(path) is not None and any(
        name in _TOKEN_PARAMETERS and value and value != "latest"
        for name, _, value in (part.partition("=") for part in query.lower().split("&"))
    )


def peek_next_link(body: bytes) -> str | None:
    """Find the next link in an undecoded page, so that it can be prefetched.

    A good guess only: the link from ``decode_page`` is authoritative.
    """
    start = body.find(_NEXT_LINK)
    found = _LINK.match(body, start + len(_NEXT_LINK)) if start >= 0 else None
    if found is None or b"\\" in found[1]:
        return None
    return found[1].decode("utf-8", "replace")


def to_batch_url(target: str) -> str:
    """Return a path relative to the API version, as ``$batch`` expects it."""
    return target.removeprefix(VERSION)
