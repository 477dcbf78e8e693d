"""Build the AsyncAPI document: channels and schemas of the events, for people and generators.

Built from the registry, so that it is always current.
https://www.asyncapi.com/docs/reference/specification/v3.0.0
"""

from typing import Any, Final

from worker.delivery.settings import DEFAULT_STREAM, MAX_BATCH
from worker.events.envelope import BATCH_CONTENT_TYPE, CONTENT_TYPE
from worker.events.schema import build_schemas, list_event_types
from worker.events.schema_fields import Schema, build_ref

VERSION: Final = "1.1.0"
"""Version of the event format: additions raise the minor number, other changes the major."""

REDIS_CHANNEL: Final = "stream"
WEBHOOK_CHANNEL: Final = "webhook"
BATCH_MESSAGE: Final = "batch"

_INFO: Final[dict[str, Any]] = {
    "title": "Tenant Mirror: change events",
    "version": VERSION,
    "description": (
        "Changes of mirrored Microsoft 365 directories, as CloudEvents 1.0 in JSON, in structured "
        "mode. Delivered at least once, and in order for each source: drop an event whose id you "
        "have processed. A new epoch of a source means that its history was rewound: a snapshot "
        "follows. Ignore unknown types and fields."
    ),
    "license": {
        "name": "Apache 2.0",
        "url": "https://www.apache.org/licenses/LICENSE-2.0",
    },
}
_SIGNATURE_HEADERS: Final[Schema] = {
    "type": "object",
    "properties": {
        "webhook-id": {
            "type": "string",
            "description": "the event's id; for a batch, the same id for the same events",
        },
        "webhook-timestamp": {
            "type": "string",
            "pattern": "^[0-9]+$",
            "description": "seconds since 1970, of this attempt; refuse old requests",
        },
        "webhook-signature": {
            "type": "string",
            "pattern": "^v1,[A-Za-z0-9+/]+=*( v1,[A-Za-z0-9+/]+=*)*$",
            "description": "one signature, or several while secrets are replaced",
        },
    },
    "required": ["webhook-id", "webhook-timestamp", "webhook-signature"],
}
_ENTRY_FIELDS: Final[Schema] = {
    "type": "object",
    "properties": {"id": build_ref("id")},
    "required": ["id"],
    "description": "the other fields of an entry; its field 'event' holds the payload",
}


def build_document(prefix: str) -> dict[str, Any]:
    """Return the AsyncAPI 3 document for event types that begin with ``prefix``."""
    return {
        "asyncapi": "3.0.0",
        "info": _INFO,
        "defaultContentType": CONTENT_TYPE,
        "channels": {
            REDIS_CHANNEL: _build_redis_channel(prefix),
            WEBHOOK_CHANNEL: _build_webhook_channel(prefix),
        },
        "operations": _build_operations(),
        "components": {
            "schemas": build_schemas(prefix),
            "messageTraits": {
                "entry": {"headers": _ENTRY_FIELDS},
                "signed": {"headers": _SIGNATURE_HEADERS},
            },
            "securitySchemes": {
                "signature": {
                    "type": "httpApiKey",
                    "in": "header",
                    "name": "webhook-signature",
                    "description": (
                        "Standard Webhooks: HMAC-SHA256, with the sink's secret, over "
                        "webhook-id.webhook-timestamp.body"
                    ),
                }
            },
        },
    }


def _build_redis_channel(prefix: str) -> dict[str, Any]:
    return {
        "address": DEFAULT_STREAM,
        "title": "Redis stream",
        "description": (
            "An entry for each event. A sink may name another stream, or one for each connection."
        ),
        "messages": _build_messages(prefix, "entry"),
    }


def _build_webhook_channel(prefix: str) -> dict[str, Any]:
    batch = {
        "name": BATCH_MESSAGE,
        "title": "several events of one connection, in order",
        "summary": "Accept all of it or none.",
        "contentType": BATCH_CONTENT_TYPE,
        "traits": [{"$ref": "#/components/messageTraits/signed"}],
        "payload": {
            "type": "array",
            "items": {"oneOf": [build_ref(name) for name in list_event_types()]},
            "minItems": 1,
            "maxItems": MAX_BATCH,
        },
    }
    return {
        "address": None,
        "title": "Webhook",
        "description": "A POST to the url of the sink: one event, or a batch if the sink has one.",
        "messages": {**_build_messages(prefix, "signed"), BATCH_MESSAGE: batch},
    }


def _build_messages(prefix: str, trait: str) -> dict[str, Any]:
    return {
        name: {
            "name": f"{prefix}.{name}",
            "title": name,
            "contentType": CONTENT_TYPE,
            "traits": [{"$ref": f"#/components/messageTraits/{trait}"}],
            "payload": build_ref(name),
        }
        for name in list_event_types()
    }


def _build_operations() -> dict[str, Any]:
    posted = {
        "bindings": {"http": {"method": "POST", "bindingVersion": "0.3.0"}},
        "security": [{"$ref": "#/components/securitySchemes/signature"}],
    }
    return {
        "append_event": _build_send_operation(
            REDIS_CHANNEL, list_event_types(), "Adds an entry to a Redis stream."
        ),
        "post_event": {
            **_build_send_operation(WEBHOOK_CHANNEL, list_event_types(), "Posts one event."),
            **posted,
        },
        "post_batch": {
            **_build_send_operation(
                WEBHOOK_CHANNEL, [BATCH_MESSAGE], "Posts several events at once."
            ),
            **posted,
        },
    }


def _build_send_operation(channel: str, names: list[str], summary: str) -> dict[str, Any]:
    return {
        "action": "send",
        "channel": {"$ref": f"#/channels/{channel}"},
        "summary": summary,
        "messages": [{"$ref": f"#/channels/{channel}/messages/{name}"} for name in names],
    }
