"""What events look like, as JSON Schema: read off the registry and its tables.

Draft 7, which AsyncAPI builds on. Objects stay open: receivers let unknown fields pass.
"""

from typing import Final

from sqlalchemy.dialects.postgresql import JSONB

from models.change_event import ChangeKind, ConnectionChange
from models.event_type import CONNECTION, EVENT_TYPES
from models.resource import Resource
from models.resources import RESOURCES
from worker.events.event_fields import (
    ABOUT,
    ATTRIBUTES,
    MORE_ABOUT,
    NULL,
    Schema,
    column_schema,
    column_type,
    having,
    ref,
)

TEST: Final = "test"
"""The type of the event that ``tenant-mirror sinks test`` sends."""

_LAST: Final = "as it was; null where the object was erased"


def event_types() -> list[str]:
    """Every type without the prefix, once, in the registry's order; the test event last."""
    return [*dict.fromkeys(EVENT_TYPES.values()), TEST]


def schemas(prefix: str) -> dict[str, Schema]:
    """Every schema by its name; that of a whole event has the event's type without the prefix."""
    found = dict(ATTRIBUTES)
    for resource in RESOURCES.values():
        found |= _types(resource) | _objects(resource)
    for (owner, change), name in EVENT_TYPES.items():
        if name not in found:
            found[name] = _event(f"{prefix}.{name}", owner, change)
    found[TEST] = _test_event(f"{prefix}.{TEST}")
    return found


def _types(resource: Resource) -> dict[str, Schema]:
    """The types that a resource's columns have, by name."""
    plain = (column for column in resource.columns if not isinstance(column.type, JSONB))
    return dict(column_type(column) for column in plain)


def _objects(resource: Resource) -> dict[str, Schema]:
    """A resource's objects as wholes, some columns of one, and what an erasure leaves."""
    columns = {str(column.name): column_schema(resource, column) for column in resource.columns}
    return {
        resource.name: {
            "type": "object",
            "description": f"{resource.table.comment}; as it is stored",
            "properties": columns,
            "required": list(columns),
        },
        f"{resource.name}.some": {
            "type": "object",
            "description": "the changed columns",
            "properties": {name: columns[name] for name in _changeable(resource)},
            "minProperties": 1,
        },
        f"{resource.name}.erased": _erased(resource),
    }


def _changeable(resource: Resource) -> list[str]:
    return [name for name in resource.column_names if name not in resource.key]


def _event(event_type: str, owner: str, change: str) -> Schema:
    """A whole event: CloudEvents in structured mode."""
    data = (
        _of_connection(change)
        if owner == CONNECTION
        else {"anyOf": [_of_object(RESOURCES[owner], change), ref(f"{owner}.erased")]}
    )
    return having(
        specversion={"const": "1.0"},
        id=ref("id"),
        source=ref("source"),
        type={"const": event_type},
        subject={
            "type": "string",
            "pattern": f"^{owner}/",
            "description": "resource and key",
        },
        time=ref("time"),
        datacontenttype={"const": "application/json"},
        sequence=ref("sequence"),
        epoch=ref("epoch"),
        partitionkey=ref("partitionkey"),
        data=data,
    )


def _of_object(resource: Resource, change: str) -> Schema:
    """What happened to an object of the directory."""
    whole, some = ref(resource.name), ref(f"{resource.name}.some")
    changed, before, after = {
        ChangeKind.CREATED: (NULL, NULL, whole),
        ChangeKind.RESTORED: (NULL, NULL, whole),
        ChangeKind.UPDATED: (_names(resource), some, some),
        ChangeKind.DELETED: (NULL, {"oneOf": [whole, NULL], "description": _LAST}, NULL),
    }[ChangeKind(change)]
    fresh = change in (ChangeKind.CREATED, ChangeKind.RESTORED)
    return having(
        connection_id=ref("connection_id"),
        tenant_id=ref("tenant_id"),
        resource={"const": resource.name},
        key=_key(resource),
        changed=changed,
        before=before,
        after=after,
        initial=ref("initial"),
        snapshot=ref("snapshot") if fresh else {"const": False},
    )


def _key(resource: Resource) -> Schema:
    columns = (column for column in resource.columns if column.primary_key)
    return having(**{str(column.name): column_schema(resource, column) for column in columns})


def _names(resource: Resource) -> Schema:
    return {
        "type": "array",
        "items": {"enum": _changeable(resource)},
        "minItems": 1,
        "uniqueItems": True,
        "description": "the columns that changed; before and after have just these",
    }


def _erased(resource: Resource) -> Schema:
    """An event that an erasure went over: that it happened is left, and nothing else."""
    some = {"type": ["array", "null"], "items": {"enum": _changeable(resource)}}
    left = having(
        connection_id=ref("connection_id"),
        tenant_id=ref("tenant_id"),
        resource={"const": resource.name},
        key=_erased_key(resource),
        changed=some,
        before=NULL,
        after=NULL,
        initial=ref("initial"),
        snapshot=ref("snapshot"),
    )
    about = "what is left of an event after the erasure of the person whom it told of"
    return {"description": about, **left}


def _erased_key(resource: Resource) -> Schema:
    """A key of which one part, or each, is no longer the id."""
    plain = _key(resource)["properties"]
    either = {name: {"oneOf": [part, ref("mark")]} for name, part in plain.items()}
    ways = [having(**{**either, name: ref("mark")}) for name in plain]
    return ways[0] if len(ways) == 1 else {"anyOf": ways}


def _of_connection(change: str) -> Schema:
    """What happened to the connection itself."""
    always = ABOUT.get(change, {})
    return having(
        connection_id=ref("connection_id"),
        tenant_id=ref("tenant_id"),
        resource={"const": CONNECTION},
        key=having(connection_id=ref("partitionkey")),
        changed=NULL,
        before=NULL,
        after={
            "type": "object",
            "properties": always | MORE_ABOUT.get(change, {}),
            "required": list(always),
        },
        initial={"const": False},
        snapshot={"const": change == ConnectionChange.SNAPSHOT_COMPLETED},
    )


def _test_event(event_type: str) -> Schema:
    return having(
        specversion={"const": "1.0"},
        id=ref("id"),
        source={"type": "string", "format": "uri-reference", "pattern": "^/sinks/."},
        type={"const": event_type},
        time=ref("time"),
        datacontenttype={"const": "application/json"},
        data=having(sink={"type": "string"}),
    )
