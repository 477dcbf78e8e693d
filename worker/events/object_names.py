"""Display names of the objects that events concern."""

import re
from collections.abc import Collection, Iterable, Mapping
from itertools import zip_longest
from string import Formatter
from typing import Any, Final

import msgspec
import sqlalchemy as sa

from models.base import DIRECTORY
from models.event_type import CONNECTION_RESOURCE
from models.property import GUID
from models.resource import OWNER
from models.resources import RESOURCES
from worker.events.event import Event
from worker.store.engine import get_driver_connection

NAME_COLUMNS: Final = (
    *dict.fromkeys(
        name
        for names in zip_longest(*(one.labels for one in RESOURCES.values()))
        for name in names
        if name
    ),
    "reason",
)
"""Columns that name an object, best first; a broken connection has a reason."""

_GUID_TEXT: Final = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_APP_ROLES: Final = f"""
    select role.one ->> 'id', role.one ->> 'value'
      from {DIRECTORY}.service_principals s
     cross join jsonb_array_elements(s.app_roles) as role (one)
     where s.{OWNER} = %(id)s and s.id = any (%(ids)s::uuid[])
       and role.one ->> 'id' = any (%(ids)s::text[]) and role.one ->> 'value' <> ''
"""
"""Roles have no row of their own: they stand in the service principal that has them."""

_OBJECTS: Final = tuple(
    f"select id::text, {one.labels[0]} from {DIRECTORY}.{one.name}"
    f" where {OWNER} = %(id)s and id = any (%(ids)s::uuid[]) and {one.labels[0]} <> ''"
    for one in RESOURCES.values()
    if one.labels and one.key_columns[0].type is GUID
)
_SELECT_NAMES: Final = " union all ".join((*_OBJECTS, _APP_ROLES)).encode()


def load_object_names(
    db: sa.Connection, connection_id: int, events: Collection[Event]
) -> Mapping[str, str]:
    """Return the current names of all objects that a connection's events mention, by id."""
    return load_names_of_ids(
        db, connection_id, [one for event in events for one in _list_mentioned_ids(event)]
    )


def load_names_of_ids(
    db: sa.Connection, connection_id: int, mentioned: Iterable[str]
) -> Mapping[str, str]:
    """Return the current names of a connection's objects by id, of those that have one."""
    ids = sorted({one for one in mentioned if _GUID_TEXT.fullmatch(one)})
    if not ids:
        return {}
    with get_driver_connection(db).cursor() as cursor:
        cursor.execute(_SELECT_NAMES, {"id": connection_id, "ids": ids})
        return dict(cursor.fetchall())


def describe_object(event: Event, names: Mapping[str, str]) -> str:
    """Return a description of an event's object: names if known, else ids."""
    resource = RESOURCES.get(event.resource)
    parts = _list_phrase_parts(event)
    if resource and parts:
        named_parts = {name: names.get(one, one) for name, one in parts.items()}
        return resource.phrase.format_map(named_parts)
    state = _decode_state(event)
    known = names.get(event.object_id)
    named = next((str(state[name]) for name in NAME_COLUMNS if state.get(name)), None)
    return known or named or ("" if event.resource == CONNECTION_RESOURCE else event.object_id)


def _list_mentioned_ids(event: Event) -> Iterable[str]:
    return _list_phrase_parts(event).values() or [event.object_id]


def _list_phrase_parts(event: Event) -> dict[str, str]:
    """Return the ids that an object's phrase names, by column; none if the event lacks one."""
    resource = RESOURCES.get(event.resource)
    if resource is None or not resource.phrase:
        return {}
    names = [name for _, name, _, _ in Formatter().parse(resource.phrase) if name]
    key = dict(zip(resource.key, event.object_id.split("/"), strict=False))
    known = key if key.keys() >= set(names) else {**_decode_state(event), **key}
    return {name: str(known[name]) for name in names} if all(map(known.get, names)) else {}


def _decode_state(event: Event) -> dict[str, Any]:
    """Return the object's columns in an event."""
    state = msgspec.json.decode(event.after or event.before or "{}")
    return state if isinstance(state, dict) else {}
