"""Scans a page item by item if it cannot be decoded as a whole."""

import json
from collections.abc import Iterator
from contextlib import suppress
from typing import Any, Final

import msgspec

from worker.core.errors import MalformedResponse
from worker.graph.json_scanner import count_items, decode_text, iter_array, split_object
from worker.nango.response import JSON_ERRORS

_decode: Final = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


class ItemScanner:
    """Yields the elements of a list as undecoded texts, one at a time."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._taken = 0

    def __iter__(self) -> Iterator[str]:
        """Yield the elements. Raises MalformedResponse if the text is no list."""
        try:
            for item in iter_array(self._text):
                self._taken += 1
                yield item
        except ValueError:
            why = "the answer has no 'value' list; nothing of it was used"
            raise MalformedResponse(why, after=60) from None

    def count_left(self) -> int:
        """Return the number of elements not yet yielded."""
        return max(0, count_items(self._text) - self._taken)


def scan_page(body: bytes) -> tuple[dict[str, str], ItemScanner]:
    """Return a page's fields and its objects, all as undecoded texts.

    Raises MalformedResponse if the body is no page.
    """
    try:
        document = _scan_body(body)
    except ValueError:
        raise MalformedResponse("the response is not JSON; it was discarded", after=60) from None
    return document, ItemScanner(document.get("value", ""))


def _scan_body(body: bytes) -> dict[str, str]:
    """Return a body's members as texts; with msgspec if possible, as scanning is slower."""
    with suppress(*JSON_ERRORS):
        return {name: decode_text(bytes(raw)) for name, raw in _decode(body).items()}
    return split_object(decode_text(body))


def parse_link_field(document: dict[str, str], name: str) -> str | None:
    """Return one of a page's links, or None.

    Raises MalformedResponse if it is no text, or one that cannot be stored.
    """
    try:
        link: Any = json.loads(document.get(name, "null"))
        if link is None:
            return None
        if isinstance(link, str) and link.encode() and "\0" not in link:
            return link
    except (ValueError, RecursionError):
        pass
    raise MalformedResponse(f"{name} is not a link; the page was discarded", after=60)


def describe_error(error: Exception) -> str:
    """Return the message of an error without the value, which may be personal data."""
    return str(error).split("\n", 1)[0][:200]
