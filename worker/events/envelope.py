"""Envelopes of change events: CloudEvents 1.0 in JSON.

``before`` and ``after`` are inserted as Postgres's JSON text, without decoding.
https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/spec.md
"""

from datetime import UTC, datetime
from functools import lru_cache
from typing import Final

import msgspec

from models.event_type import EVENT_TYPES
from models.resources import RESOURCES
from worker.events.event import Event

CONTENT_TYPE: Final = "application/cloudevents+json"
BATCH_CONTENT_TYPE: Final = "application/cloudevents-batch+json"

_JSON: Final = msgspec.json.Encoder()


class EnvelopeBuilder:
    """Builds envelopes of one connection's events; ``epoch`` is that of their sequence."""

    def __init__(self, prefix: str, connection_id: int, tenant_id: str | None, epoch: str) -> None:
        self._type_subjects = _build_type_subjects(prefix)
        self._source = f'","source":"/connections/{connection_id}","type":'
        self._partition = (
            f'","epoch":"{epoch}","partitionkey":"{connection_id}","data":{{"connection_id":{connection_id},'
            f'"tenant_id":{_encode(tenant_id)},"resource":"'
        )
        self._cached_at: datetime | None = None
        self._cached_time = ""

    def build(self, event: Event) -> bytes:
        """Return the envelope of an event as UTF-8 JSON."""
        (
            _,
            seq,
            occurred_at,
            event_id,
            resource,
            object_id,
            change,
            changed,
            before,
            after,
            initial,
            snapshot,
        ) = event
        if occurred_at != self._cached_at:
            self._cached_time, self._cached_at = _render_time(occurred_at), occurred_at
        names = _RESOURCE_KEYS.get(resource, _CONNECTION_KEY)
        spelt = _escape_json(object_id)
        key = (
            f'{{"{names[0]}":"{spelt}"}}' if len(names) == 1 else _encode_pair_key(names, object_id)
        )
        return (
            f'{{"specversion":"1.0","id":"{event_id}{self._source}'
            f'{self._type_subjects[resource, change]}{spelt}","time":"{self._cached_time}",'
            f'"datacontenttype":"application/json","sequence":"{seq:019d}{self._partition}'
            f'{resource}","key":{key},'
            f'"changed":{"null" if changed is None else _encode(changed)},'
            f'"before":{before or "null"},"after":{after or "null"},'
            f'"initial":{"true" if initial else "false"},'
            f'"snapshot":{"true" if snapshot else "false"}}}}}'
        ).encode()


@lru_cache(maxsize=8)
def _build_type_subjects(prefix: str) -> dict[tuple[str, str], str]:
    """Return the type and the start of the subject, by resource and change."""
    return {
        (resource, change): f'{_encode(f"{prefix}.{name}")},"subject":"{resource}/'
        for (resource, change), name in EVENT_TYPES.items()
    }


def _encode(value: object) -> str:
    return _JSON.encode(value).decode()


def _render_time(moment: datetime) -> str:
    text = moment.astimezone(UTC).isoformat(timespec="microseconds")
    return f"{text.removesuffix('+00:00')}Z"


def _escape_json(text: str) -> str:
    """Return a text escaped for a JSON string, without quotation marks."""
    if text.isascii() and text.isprintable() and '"' not in text and "\\" not in text:
        return text
    return _encode(text)[1:-1]


_CONNECTION_KEY: Final = ("connection_id",)
_RESOURCE_KEYS: Final = {resource.name: resource.key for resource in RESOURCES.values()}


def _encode_pair_key(names: tuple[str, ...], object_id: str) -> str:
    """Return the JSON key of a membership."""
    parts = object_id.split("/", len(names) - 1)
    return _encode(dict(zip(names, parts, strict=True)))
