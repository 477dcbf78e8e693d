"""Builds ``$batch`` bodies of the organization and other requests, and parses the responses. Pure.

Responses come in any order and each is classified by itself; some may be missing.
https://learn.microsoft.com/graph/json-batching
"""

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Final

import msgspec

from worker.graph.json_scanner import decode_text, split_array, split_object
from worker.graph.links import to_batch_url
from worker.graph.urls import ORGANIZATION_PATH
from worker.nango.response import JSON_ERRORS, TRANSIENT_STATUSES, ApiResponse

_ORGANIZATION_ID: Final = "tenant"
"""The id of the organization's item; the others are numbered."""


class _Item(msgspec.Struct, frozen=True):
    id: str
    status: int
    headers: dict[str, Any] | None = None
    body: msgspec.Raw = msgspec.Raw(b"")


class _BatchBody(msgspec.Struct, frozen=True):
    responses: list[_Item]


@dataclass(frozen=True)
class BatchResult:
    """The result of one ``$batch``: the organization's response, and the others by name."""

    organization: ApiResponse
    responses: dict[str, ApiResponse]

    @property
    def has_tenant_proof(self) -> bool:
        """Whether the organization was answered rather than throttled."""
        return not _is_throttled(self.organization)

    @property
    def throttled_names(self) -> set[str]:
        return {name for name, one in self.responses.items() if _is_throttled(one)}

    def compute_pause(self, attempt: int, max_pause: float) -> float | None:
        """Return the seconds before throttled requests are sent again; None if none was throttled.

        Only a pause that the service asked for may exceed ``max_pause``.
        """
        replies = [self.organization, *self.responses.values()]
        pauses = [_compute_pause(one, attempt, max_pause) for one in replies if _is_throttled(one)]
        return max(pauses, default=None)


def build_batch(targets: Mapping[str, str]) -> dict[str, object]:
    """Return the body of a ``$batch`` for the targets (by name) and the organization."""
    numbered = [(_ORGANIZATION_ID, ORGANIZATION_PATH), *_number_names(targets.values())]
    return {
        "requests": [
            {"id": number, "method": "GET", "url": to_batch_url(target)}
            for number, target in numbered
        ]
    }


def parse_batch(targets: Mapping[str, str], response: ApiResponse) -> BatchResult | None:
    """Return the responses to the targets; None if unreadable, or without the organization's."""
    date = response.headers.get("date")
    items = {item.id: _to_response(item, date) for item in _parse_items(response)}
    organization = items.get(_ORGANIZATION_ID)
    if organization is None:
        return None
    numbered = _number_names(targets)
    return BatchResult(organization, {name: items[one] for one, name in numbered if one in items})


def _number_names(names: Iterable[str]) -> list[tuple[str, str]]:
    return [(str(number), name) for number, name in enumerate(names)]


def _parse_items(response: ApiResponse) -> list[_Item]:
    try:
        return msgspec.json.decode(response.body, type=_BatchBody).responses
    except JSON_ERRORS:
        return _salvage_items(response.body)


def _salvage_items(body: bytes) -> list[_Item]:
    """Parse the items one by one if some body is malformed; that item fails by itself later."""
    try:
        items = split_array(split_object(decode_text(body)).get("responses", ""))
    except ValueError:
        return []
    salvaged = [_salvage_item(text) for text in items]
    return [item for item in salvaged if item is not None]


def _salvage_item(text: str) -> _Item | None:
    try:
        sent = split_object(text)
        body = msgspec.Raw(sent.pop("body", "").encode("utf-8", "surrogatepass"))
        head = ",".join(f'"{name}":{value}' for name, value in sent.items() if name.isidentifier())
        return msgspec.structs.replace(msgspec.json.decode(f"{{{head}}}", type=_Item), body=body)
    except (*JSON_ERRORS, ValueError):
        return None


def _to_response(item: _Item, date: str | None) -> ApiResponse:
    """Return an item as a response. Its body keeps its bytes, whose hash detects unchanged rows."""
    headers = {name.lower(): str(value) for name, value in (item.headers or {}).items()}
    if date is not None:
        headers.setdefault("date", date)
    return ApiResponse(item.status, bytes(item.body), headers)


def _is_throttled(response: ApiResponse) -> bool:
    return response.status in TRANSIENT_STATUSES


def _compute_pause(response: ApiResponse, attempt: int, longest: float) -> float:
    asked = response.get_retry_after(time.time())
    if asked is None:
        growing = 0.5 * 2**attempt
        asked = (
            growing if response.status == HTTPStatus.TOO_MANY_REQUESTS else min(growing, longest)
        )
    return asked
