"""JSON Schemas of single values in events: attributes, columns by type, and keys."""

from typing import Any, Final, TypeAlias

from models.change_event import ConnectionChange
from models.erasure import ERASED_PREFIX
from models.property import (
    BOOLEAN,
    DOCUMENT,
    DOCUMENTS,
    GUID,
    INTEGER,
    TEXT,
    TEXTS,
    TIMESTAMP,
    Property,
    ValueType,
)
from models.resources import RESOURCES
from worker.rows.shape import MAX_KEY_LENGTH

Schema: TypeAlias = dict[str, Any]

NULL: Final[Schema] = {"type": "null"}
_GUID_PATTERN: Final = "^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$"
_TIME_PATTERN: Final = r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d"

_COLUMN_TYPES: Final[dict[ValueType, Schema]] = {
    GUID: {"type": ["string", "null"], "format": "uuid", "pattern": _GUID_PATTERN},
    TIMESTAMP: {
        "type": ["string", "null"],
        "format": "date-time",
        "pattern": _TIME_PATTERN + r"(\.\d{1,6})?Z$",
        "description": "in UTC; up to six digits after the second",
    },
    BOOLEAN: {"type": ["boolean", "null"]},
    INTEGER: {"type": ["integer", "null"], "format": "int64"},
    TEXTS: {"type": ["array", "null"], "items": {"type": "string"}},
    TEXT: {"type": ["string", "null"]},
}
_KEY_TYPES: Final[dict[ValueType, Schema]] = {
    GUID: {"type": "string", "format": "uuid", "pattern": _GUID_PATTERN},
    TEXT: {"type": "string", "minLength": 1, "maxLength": MAX_KEY_LENGTH},
}
_NESTED_TYPES: Final[dict[ValueType, Schema]] = {
    DOCUMENT: {"type": "object"},
    DOCUMENTS: {"type": "array", "items": {"type": "object"}},
}
"""Complex values as Graph sends them; these schemas have no names of their own."""

ATTRIBUTES: Final[dict[str, Schema]] = {
    "id": {
        "type": "string",
        "format": "uuid",
        "description": "the id of this event, the same for every receiver and every delivery",
    },
    "source": {
        "type": "string",
        "format": "uri-reference",
        "pattern": "^/connections/[1-9][0-9]*$",
        "description": "the connection: one customer's authorisation",
    },
    "time": {
        "type": "string",
        "format": "date-time",
        "pattern": _TIME_PATTERN + r"\.\d{6}Z$",
        "description": "when the mirror recorded the change; never decreases with the sequence",
    },
    "sequence": {
        "type": "string",
        "pattern": "^[0-9]{19}$",
        "description": "1, 2, 3 and so on within the source; as text of a fixed width",
    },
    "epoch": {
        "type": "string",
        "format": "uuid",
        "pattern": _GUID_PATTERN,
        "description": (
            "the history in which the sequence counts; a restore or failover begins a new one."
            " Compared as text, a later epoch is greater"
        ),
    },
    "partitionkey": {
        "type": "string",
        "pattern": "^[1-9][0-9]*$",
        "description": "the connection's id: a key to distribute work by",
    },
    "initial": {
        "type": "boolean",
        "description": "part of a first load: the object existed before it was mirrored",
    },
    "snapshot": {"type": "boolean", "description": "describes the current object, not a change"},
    "mark": {
        "type": "string",
        "pattern": f"^{ERASED_PREFIX}[0-9a-f]+$",
        "description": "a digest that replaces an erased id",
    },
    "connection_id": {"type": "integer", "minimum": 1},
    "tenant_id": {
        "type": ["string", "null"],
        "format": "uuid",
        "pattern": _GUID_PATTERN,
        "description": "Microsoft's tenant id; null until the first sync",
    },
}
_TOLD: Final = [resource.name for resource in RESOURCES.values() if resource.has_events]

CONNECTION_EVENT_FIELDS: Final[dict[str, Schema]] = {
    ConnectionChange.ADDED: {
        "nango_connection_id": {"type": "string"},
        "provider_config_key": {"type": "string"},
        "provider": {"type": "string"},
    },
    ConnectionChange.BROKEN: {"reason": {"type": "string", "description": "for people"}},
    ConnectionChange.RESYNCED: {
        "resources": {
            "type": "array",
            "items": {"enum": _TOLD},
            "minItems": 1,
            "description": "the resources that were read again completely",
        },
    },
    ConnectionChange.COVERAGE_CHANGED: {
        "resource": {"enum": _TOLD},
        "added": {
            "type": "array",
            "items": {"type": "string"},
            "description": "columns that events tell from here on; rows have their values",
        },
        "dropped": {
            "type": "array",
            "items": {"type": "string"},
            "description": "columns that are not read from here on, and no event tells",
        },
        "state": {
            "enum": ["on", "off", None],
            "description": "off: the settings have switched the resource off, and all of its rows "
            "go without an event for each; on: it is read again, as for the first time; null: "
            "other columns of it are read",
        },
    },
    ConnectionChange.REWOUND: {
        "epoch": {"type": "string", "format": "uuid"},
        "previous_epoch": {"type": "string", "format": "uuid"},
        "reason": {"type": "string", "description": "for people"},
        "last_connection": {
            "type": "integer",
            "description": "connections with a greater number no longer exist",
        },
    },
    ConnectionChange.SNAPSHOT_COMPLETED: {
        "resources": {
            "type": "array",
            "items": {"enum": _TOLD},
            "description": "the resources of which the snapshot contained every object",
        },
    },
}
"""Required fields of events about a connection; other fields may be added."""
OPTIONAL_CONNECTION_EVENT_FIELDS: Final[dict[str, Schema]] = {
    ConnectionChange.REMOVED: {
        "continued_by": {
            "type": "integer",
            "description": "the connection that continues this tenant's history",
        }
    },
}


def build_ref(name: str) -> Schema:
    """Return a reference to one of the schemas."""
    return {"$ref": f"#/components/schemas/{name}"}


def find_column_schema(column: Property) -> tuple[str, Schema]:
    """Return the name and the schema of a column's values in events."""
    if column.key:
        return f"{column.type.name}_key", _KEY_TYPES[column.type]
    return column.type.name, _COLUMN_TYPES[column.type]


def build_column_schema(column: Property) -> Schema:
    """Return the schema of a column in one resource, with its meaning.

    Generators that follow draft 7 of JSON Schema ignore what stands beside a ``$ref``.
    """
    nested = _NESTED_TYPES.get(column.type)
    if nested is not None:
        return {"anyOf": [nested, NULL], "description": column.meaning}
    reference = build_ref(find_column_schema(column)[0])
    return {"allOf": [reference], "description": column.meaning}


def build_object_schema(**properties: Schema) -> Schema:
    """Return the schema of an object that requires all of these properties."""
    return {"type": "object", "properties": properties, "required": list(properties)}
