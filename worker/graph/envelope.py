"""The envelope of a ``$batch``: the organization and other requests in, their answers out. Pure.

Answers come in any order and each is judged by itself; one may be missing.
https://learn.microsoft.com/graph/json-batching
"""

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Final

import msgspec

from worker.graph.fragments import items_of, members_of, text_of
from worker.graph.links import batch_url
from worker.graph.targets import ORGANIZATION
from worker.nango.reply import PASSING, UNREADABLE, Reply

_TENANT: Final = "tenant"
"""The id of the organization's item; the others are numbered."""


class _Item(msgspec.Struct, frozen=True):
    id: str
    status: int
    headers: dict[str, Any] | None = None
    body: msgspec.Raw = msgspec.Raw(b"")


class _Envelope(msgspec.Struct, frozen=True):
    responses: list[_Item]


@dataclass(frozen=True)
class Came:
    """What one ``$batch`` brought: the organization that answered, and answers by name."""

    organization: Reply
    replies: dict[str, Reply]

    @property
    def proves_tenant(self) -> bool:
        """Whether the organization answered at all, so that it can be judged."""
        return not _is_throttled(self.organization)

    @property
    def throttled(self) -> set[str]:
        return {name for name, one in self.replies.items() if _is_throttled(one)}

    def pause(self, attempt: int, longest: float) -> float | None:
        """Seconds before what was throttled goes out again; None: nothing was.

        Only a service that throttles may ask for more than the ``longest`` pause.
        """
        replies = [self.organization, *self.replies.values()]
        pauses = [_pause(one, attempt, longest) for one in replies if _is_throttled(one)]
        return max(pauses, default=None)


def requests_of(targets: Mapping[str, str]) -> dict[str, object]:
    """The body of a ``$batch`` that asks for the targets (by name) and for the organization."""
    numbered = [(_TENANT, ORGANIZATION), *_numbered(targets.values())]
    return {
        "requests": [
            {"id": number, "method": "GET", "url": batch_url(target)} for number, target in numbered
        ]
    }


def opened(targets: Mapping[str, str], reply: Reply) -> Came | None:
    """The answers to the targets; None where they cannot be read, or none tells the tenant."""
    date = reply.headers.get("date")
    items = {item.id: _reply(item, date) for item in _items(reply)}
    organization = items.get(_TENANT)
    if organization is None:
        return None
    numbered = _numbered(targets)
    return Came(organization, {name: items[one] for one, name in numbered if one in items})


def _numbered(names: Iterable[str]) -> list[tuple[str, str]]:
    return [(str(number), name) for number, name in enumerate(names)]


def _items(reply: Reply) -> list[_Item]:
    try:
        return msgspec.json.decode(reply.body, type=_Envelope).responses
    except UNREADABLE:
        return _items_apart(reply.body)


def _items_apart(body: bytes) -> list[_Item]:
    """The items of an envelope of which some body cannot be read; that one is judged by itself."""
    try:
        items = items_of(members_of(text_of(body)).get("responses", ""))
    except ValueError:
        return []
    found = [_item_apart(text) for text in items]
    return [item for item in found if item is not None]


def _item_apart(text: str) -> _Item | None:
    try:
        sent = members_of(text)
        body = msgspec.Raw(sent.pop("body", "").encode("utf-8", "surrogatepass"))
        head = ",".join(f'"{name}":{value}' for name, value in sent.items() if name.isidentifier())
        return msgspec.structs.replace(msgspec.json.decode(f"{{{head}}}", type=_Item), body=body)
    except (*UNREADABLE, ValueError):
        return None


def _reply(item: _Item, date: str | None) -> Reply:
    """The body keeps its bytes: rows are known again by them. It was made when the whole was."""
    headers = {name.lower(): str(value) for name, value in (item.headers or {}).items()}
    if date is not None:
        headers.setdefault("date", date)
    return Reply(item.status, bytes(item.body), headers)


def _is_throttled(reply: Reply) -> bool:
    return reply.status in PASSING


def _pause(reply: Reply, attempt: int, longest: float) -> float:
    asked = reply.retry_after(time.time())
    if asked is None:
        growing = 0.5 * 2**attempt
        asked = growing if reply.status == HTTPStatus.TOO_MANY_REQUESTS else min(growing, longest)
    return asked
