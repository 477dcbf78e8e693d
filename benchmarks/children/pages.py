"""Reads the pages of a list with as little code as possible."""

import http.client
import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

_NEXT = re.compile(rb'"@odata\.nextLink":"([^"]+)"')


def read_bodies(asked: dict[str, Any]) -> Iterator[bytes]:
    """Yield each page's body, from `target` on; end the program if one is refused."""
    place = urlsplit(asked["url"])
    line = http.client.HTTPConnection(place.hostname or "", place.port)
    target = f"/proxy/v1.0/{asked['target']}"
    while target:
        line.request("GET", target, headers=asked["headers"])
        answer = line.getresponse()
        body = answer.read()
        if answer.status != 200:
            raise SystemExit(f"{answer.status}: {body[:300]!r}")
        yield body
        found = _NEXT.search(body)
        link = found[1].decode() if found else ""
        target = "/proxy/v1.0/" + link.partition("/v1.0/")[2] if link else ""
    line.close()
