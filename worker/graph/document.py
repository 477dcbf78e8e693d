"""A body read by hand, where it cannot be decoded in one go."""

import json
from typing import Any

from worker.core.errors import Torn
from worker.graph.fragments import items_of, members_of, text_of


def document_of(body: bytes) -> tuple[dict[str, str], list[str]]:
    """A page and its list of objects, each still a text. Raises Torn where the body is none."""
    try:
        document = members_of(text_of(body))
    except ValueError:
        raise Torn("the answer is not JSON; nothing of it was used", after=60) from None
    try:
        return document, items_of(document.get("value", ""))
    except ValueError:
        raise Torn("the answer has no 'value' list; nothing of it was used", after=60) from None


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
