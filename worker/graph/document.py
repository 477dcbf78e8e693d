"""A body read by hand, where it cannot be decoded in one go."""

import json
from collections.abc import Iterator
from contextlib import suppress
from typing import Any, Final

import msgspec

from worker.core.errors import Torn
from worker.graph.fragments import count_items, each_item, members_of, text_of
from worker.nango.reply import UNREADABLE

_decode: Final = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


class Items:
    """The elements of a list, each still a text; none is taken out before it is asked for."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._taken = 0

    def __iter__(self) -> Iterator[str]:
        """Raises Torn where it is no list."""
        try:
            for item in each_item(self._text):
                self._taken += 1
                yield item
        except ValueError:
            why = "the answer has no 'value' list; nothing of it was used"
            raise Torn(why, after=60) from None

    def left(self) -> int:
        """How many have not been taken out."""
        return max(0, count_items(self._text) - self._taken)


def document_of(body: bytes) -> tuple[dict[str, str], Items]:
    """A page and its list of objects, each still a text. Raises Torn where the body is none."""
    try:
        document = _members(body)
    except ValueError:
        raise Torn("the answer is not JSON; nothing of it was used", after=60) from None
    return document, Items(document.get("value", ""))


def _members(body: bytes) -> dict[str, str]:
    """Decoded where that can be done, as reading by hand takes its time."""
    with suppress(*UNREADABLE):
        return {name: text_of(bytes(raw)) for name, raw in _decode(body).items()}
    return members_of(text_of(body))


def link_of(document: dict[str, str], name: str) -> str | None:
    """One of a page's links. Raises Torn where it is no text, or none that can be kept."""
    try:
        link: Any = json.loads(document.get(name, "null"))
        if link is None:
            return None
        if isinstance(link, str) and link.encode() and "\0" not in link:
            return link
    except (ValueError, RecursionError):
        pass
    raise Torn(f"{name} is not a link; nothing of the page was used", after=60)


def reason_of(fault: Exception) -> str:
    """The reason without the offending value, which may be personal data."""
    return str(fault).split("\n", 1)[0][:200]
