"""A body read by hand, where it cannot be decoded in one go."""

import json
from typing import Any

from worker.core.errors import Torn


def json_of(body: bytes) -> Any:
    """Any JSON. Raises Torn where the body is none."""
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        raise Torn("the answer is not JSON; nothing of it was used", after=60) from None


def document_of(body: bytes) -> tuple[dict[str, Any], list[Any]]:
    """A page and its list of objects. Raises Torn where the body is none."""
    document = json_of(body)
    value = document.get("value") if isinstance(document, dict) else None
    if not isinstance(value, list):
        raise Torn("the answer has no 'value' list; nothing of it was used", after=60)
    return document, value


def link_of(document: dict[str, Any], name: str) -> str | None:
    """One of a page's links. Raises Torn where it is no text."""
    link = document.get(name)
    if link is not None and not isinstance(link, str):
        raise Torn(f"{name} is not a link; nothing of the page was used", after=60)
    return link


def reason_of(fault: Exception) -> str:
    """The reason without the offending value, which may be personal data."""
    return str(fault).split("\n", 1)[0][:200]
