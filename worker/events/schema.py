"""JSON Schemas of events, built from the registry.

Draft 7, which AsyncAPI uses. Objects allow additional properties: receivers ignore unknown fields.
"""

from typing import Final

from models.change_event import ChangeKind, ConnectionChange
from models.event_type import CONNECTION_RESOURCE, EVENT_TYPES
from models.property import NESTED
from models.resource import Resource
from models.resources import RESOURCES
from worker.events.schema_fields import (
    ATTRIBUTES,
    CONNECTION_EVENT_FIELDS,
    NULL,
    OPTIONAL_CONNECTION_EVENT_FIELDS,
    Schema,
    build_column_schema,
    build_object_schema,
    build_ref,
    find_column_schema,
)

TEST_EVENT: Final = "test"
"""The type of the event that ``tenant-mirror sinks test`` sends."""

_BEFORE_DESCRIPTION: Final = "as it was; null where the object was erased"


def list_event_types() -> list[str]:
    """Return all event types without the prefix, in the registry's order; the test event last."""
    return [*dict.fromkeys(EVENT_TYPES.values()), TEST_EVENT]


def build_schemas(prefix: str) -> dict[str, Schema]:
    """Return all schemas by name; an event's schema has its type, without the prefix, as name."""
    schemas = dict(ATTRIBUTES)
    for resource in (one for one in RESOURCES.values() if one.has_events):
        schemas |= _build_column_types(resource) | _build_object_schemas(resource)
    for (owner, change), name in EVENT_TYPES.items():
        if name not in schemas:
            schemas[name] = _build_event_schema(f"{prefix}.{name}", owner, change)
    schemas[TEST_EVENT] = _build_test_event_schema(f"{prefix}.{TEST_EVENT}")
    return schemas


def _build_column_types(resource: Resource) -> dict[str, Schema]:
    """Return the schemas of a resource's column types, by name."""
    plain = (column for column in resource.told_columns if column.type not in NESTED)
    return dict(find_column_schema(column) for column in plain)


def _build_object_schemas(resource: Resource) -> dict[str, Schema]:
    """Return schemas of a whole object, of some columns, and of an event after an erasure."""
    columns = {column.name: build_column_schema(column) for column in resource.told_columns}
    return {
        resource.name: {
            "type": "object",
            "description": f"{resource.meaning}; as it is stored",
            "properties": columns,
            "required": list(columns),
        },
        f"{resource.name}.some": {
            "type": "object",
            "description": "the changed columns",
            "properties": {name: columns[name] for name in _list_non_key_columns(resource)},
            "minProperties": 1,
        },
        f"{resource.name}.erased": _build_erased_schema(resource),
    }


def _list_non_key_columns(resource: Resource) -> list[str]:
    return [column.name for column in resource.told_columns if not column.key]


def _build_event_schema(event_type: str, owner: str, change: str) -> Schema:
    """Return the schema of an event in CloudEvents' structured mode."""
    data = (
        _build_connection_data(change)
        if owner == CONNECTION_RESOURCE
        else {"anyOf": [_build_object_data(RESOURCES[owner], change), build_ref(f"{owner}.erased")]}
    )
    return build_object_schema(
        specversion={"const": "1.0"},
        id=build_ref("id"),
        source=build_ref("source"),
        type={"const": event_type},
        subject={
            "type": "string",
            "pattern": f"^{owner}/",
            "description": "resource and key",
        },
        time=build_ref("time"),
        datacontenttype={"const": "application/json"},
        sequence=build_ref("sequence"),
        epoch=build_ref("epoch"),
        partitionkey=build_ref("partitionkey"),
        data=data,
    )


def _build_object_data(resource: Resource, change: str) -> Schema:
    """Return the schema of ``data`` for a change of an object."""
    whole, some = build_ref(resource.name), build_ref(f"{resource.name}.some")
    changed, before, after = {
        ChangeKind.CREATED: (NULL, NULL, whole),
        ChangeKind.RESTORED: (NULL, NULL, whole),
        ChangeKind.UPDATED: (_build_changed_schema(resource), some, some),
        ChangeKind.DELETED: (
            NULL,
            {"oneOf": [whole, NULL], "description": _BEFORE_DESCRIPTION},
            NULL,
        ),
    }[ChangeKind(change)]
    fresh = change in (ChangeKind.CREATED, ChangeKind.RESTORED)
    return build_object_schema(
        connection_id=build_ref("connection_id"),
        tenant_id=build_ref("tenant_id"),
        resource={"const": resource.name},
        key=_build_key_schema(resource),
        changed=changed,
        before=before,
        after=after,
        initial=build_ref("initial"),
        snapshot=build_ref("snapshot") if fresh else {"const": False},
    )


def _build_key_schema(resource: Resource) -> Schema:
    return build_object_schema(
        **{column.name: build_column_schema(column) for column in resource.key_columns}
    )


def _build_changed_schema(resource: Resource) -> Schema:
    return {
        "type": "array",
        "items": {"enum": _list_non_key_columns(resource)},
        "minItems": 1,
        "uniqueItems": True,
        "description": "the columns that changed; before and after have just these",
    }


def _build_erased_schema(resource: Resource) -> Schema:
    """Return the schema of ``data`` after an erasure, which keeps only that an event happened."""
    some = {"type": ["array", "null"], "items": {"enum": _list_non_key_columns(resource)}}
    left = build_object_schema(
        connection_id=build_ref("connection_id"),
        tenant_id=build_ref("tenant_id"),
        resource={"const": resource.name},
        key=_build_erased_key_schema(resource),
        changed=some,
        before=NULL,
        after=NULL,
        initial=build_ref("initial"),
        snapshot=build_ref("snapshot"),
    )
    about = "what is left of an event after the erasure of the person whom it told of"
    return {"description": about, **left}


def _build_erased_key_schema(resource: Resource) -> Schema:
    """Return the schema of a key in which at least one id was erased."""
    plain = {it.name: build_ref(find_column_schema(it)[0]) for it in resource.key_columns}
    either = {name: {"oneOf": [part, build_ref("mark")]} for name, part in plain.items()}
    ways = [build_object_schema(**{**either, name: build_ref("mark")}) for name in plain]
    return ways[0] if len(ways) == 1 else {"anyOf": ways}


def _build_connection_data(change: str) -> Schema:
    """Return the schema of ``data`` for a change of the connection itself."""
    always = CONNECTION_EVENT_FIELDS.get(change, {})
    return build_object_schema(
        connection_id=build_ref("connection_id"),
        tenant_id=build_ref("tenant_id"),
        resource={"const": CONNECTION_RESOURCE},
        key=build_object_schema(connection_id=build_ref("partitionkey")),
        changed=NULL,
        before=NULL,
        after={
            "type": "object",
            "properties": always | OPTIONAL_CONNECTION_EVENT_FIELDS.get(change, {}),
            "required": list(always),
        },
        initial={"const": False},
        snapshot={"const": change == ConnectionChange.SNAPSHOT_COMPLETED},
    )


def _build_test_event_schema(event_type: str) -> Schema:
    return build_object_schema(
        specversion={"const": "1.0"},
        id=build_ref("id"),
        source={"type": "string", "format": "uri-reference", "pattern": "^/sinks/."},
        type={"const": event_type},
        time=build_ref("time"),
        datacontenttype={"const": "application/json"},
        data=build_object_schema(sink={"type": "string"}),
    )
